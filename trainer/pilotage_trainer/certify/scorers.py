"""Asking models about many prompts: the served ones over vLLM's interface, or the same ones in this process.

Certificates rest on the served model's scores; in-process scoring is for a quick look, and equal to the last bit.
"""

import asyncio
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import aiohttp
import msgspec

from pilotage_core.dialog import VERDICT_MARK
from pilotage_core.errors import EvidenceError, UnavailableError
from pilotage_core.score import read_confidence
from pilotage_trainer.artefact import read_manifest
from pilotage_trainer.backends import vllm
from pilotage_trainer.backends.interface import AnyCritic, AnyPolicy
from pilotage_trainer.retry import ATTEMPTS, ask_again

AT_ONCE = 8
TIMEOUT_SECONDS = 30.0

Ask = tuple[str, dict[str, Any]]
"""A prompt and the schema of what may be answered."""

NO_REPLY = vllm.ChatReply("", 0, "", [vllm.ChatChoice(vllm.ReplyMessage(""))], vllm.Usage(0, 0))


class RefusedError(EvidenceError):
    """The server understood a request and will not answer it (HTTP 400)."""


Reply = TypeVar("Reply")


class Scorer(Protocol):
    """What calibration asks of a pair of models."""

    def propose_all(self, asks: Sequence[Ask]) -> list[tuple[str, float | None]]:
        """The policy's reply (JSON) to each prompt under its schema, and its confidence (None: not told)."""
        ...

    def score_all(self, queries: Sequence[str]) -> list[float]:
        """The critic's P(accept) of the action at the end of each query."""
        ...


class InProcess:
    """The models loaded here."""

    def __init__(self, policy: AnyPolicy, critic: AnyCritic) -> None:
        self.policy = policy
        self.critic = critic

    def propose_all(self, asks: Sequence[Ask]) -> list[tuple[str, float | None]]:
        """The policy's reply (JSON) to each prompt under its schema, and its confidence."""
        return list(self.policy.propose_many(asks))

    def score_all(self, queries: Sequence[str]) -> list[float]:
        """The critic's P(accept) of the action at the end of each query."""
        return self.critic.score_many(queries)


class ServedPair:
    """The models behind two addresses. Raises UnavailableError where they do not answer, EvidenceError otherwise."""

    def __init__(self, policy_url: str, critic_url: str) -> None:
        self.policy_url = policy_url.rstrip("/")
        self.critic_url = critic_url.rstrip("/")

    def propose_all(self, asks: Sequence[Ask]) -> list[tuple[str, float | None]]:
        """The policy's reply (JSON) to each prompt under its schema, and its confidence as a gateway reads it.

        A prompt that the server refuses, as one too long for its model, has an empty reply: a gateway proposes nothing
        then. Raises EvidenceError where it refuses all of them.
        """
        bodies = [
            {
                "model": vllm.POLICY,
                "messages": [{"role": "user", "content": prompt}],
                "response_format": {"type": "json_schema", "json_schema": {"name": "action", "schema": schema}},
                "max_tokens": 512,
                "temperature": 0,
                "logprobs": True,
            }
            for prompt, schema in asks
        ]
        url = self.policy_url + "/v1/chat/completions"
        replies = asyncio.run(_post_all(url, bodies, vllm.ChatReply, if_refused=NO_REPLY))
        choices = [reply.choices[0] for reply in replies]
        return [(choice.message.content, read_confidence(_list_logprobs(choice))) for choice in choices]

    def score_all(self, queries: Sequence[str]) -> list[float]:
        """The critic's P(accept) of the action at the end of each query."""
        labels = [self.find_token(vllm.VOCABULARY[token]) for token in (vllm.ACCEPT_TOKEN_ID, vllm.REJECT_TOKEN_ID)]
        bodies = [
            {
                "model": vllm.CRITIC,
                "query": query,
                "items": [VERDICT_MARK],
                "label_token_ids": labels,
                "apply_softmax": True,
                "add_special_tokens": False,
            }
            for query in queries
        ]
        replies = asyncio.run(_post_all(self.critic_url + "/generative_scoring", bodies, vllm.ScoringReply))
        scores = [reply.data[0].score for reply in replies]
        for score in scores:
            if not (math.isfinite(score) and 0.0 <= score <= 1.0):
                raise EvidenceError(f"answered {score} for a probability", where=self.critic_url)
        return scores

    def find_token(self, word: str) -> int:
        """The id of `word`, which has to be one token."""
        body = {"model": vllm.CRITIC, "prompt": word, "add_special_tokens": False}
        (reply,) = asyncio.run(_post_all(self.critic_url + "/tokenize", [body], vllm.TokenizeReply))
        if reply.count != 1:
            raise EvidenceError(f"splits {word!r} into {reply.count} tokens", where=self.critic_url)
        return reply.tokens[0]

    def read_digests(self) -> dict[str, str]:
        """The artefact digest of each model served at the two addresses.

        pilotage-serve tells the digest; vLLM tells the folder it serves, whose manifest has it: a Job sees the same
        volume at the same path. Raises DamagedArtefactError.
        """
        found: dict[str, str] = {}
        for url in dict.fromkeys((self.policy_url, self.critic_url)):
            listed = asyncio.run(_get(url + "/v1/models", vllm.ModelList))
            for card in listed.data:
                is_folder = "/" in card.root
                found[card.id] = read_manifest(Path(card.root)).digest if is_folder else card.root
        return found


def _list_logprobs(choice: vllm.ChatChoice) -> list[float]:
    return [token.logprob for token in choice.logprobs.content] if choice.logprobs else []


async def _post_all(
    url: str, bodies: Sequence[Mapping[str, Any]], kind: type[Reply], *, if_refused: Reply | None = None
) -> list[Reply]:
    """The reply to each of `bodies`, in order, a few asked at once.

    Raises RefusedError for a request that is refused; with `if_refused`, which then stands for its reply, only where
    all of them are.
    """
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
    connector = aiohttp.TCPConnector(limit=AT_ONCE)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as client:
        slots = asyncio.Semaphore(AT_ONCE)
        refused = 0

        async def ask(body: Mapping[str, Any]) -> Reply:
            nonlocal refused
            async with slots:
                try:
                    return await _request(client, "POST", url, msgspec.json.encode(body), kind)
                except RefusedError:
                    refused += 1
                    if if_refused is None or refused == len(bodies):
                        raise
                    return if_refused

        return list(await asyncio.gather(*(ask(body) for body in bodies)))


async def _get(url: str, kind: type[Reply]) -> Reply:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)) as client:
        return await _request(client, "GET", url, b"", kind)


@ask_again
async def _request(client: aiohttp.ClientSession, method: str, url: str, body: bytes, kind: type[Reply]) -> Reply:
    """One request; asked again where the server is gone or overloaded (5xx)."""
    tried = f"tried {ATTEMPTS} times"
    try:
        async with client.request(method, url, data=body, headers={"Content-Type": "application/json"}) as reply:
            answer = await reply.read()
    except (aiohttp.ClientError, TimeoutError) as error:
        raise UnavailableError(f"does not answer ({type(error).__name__} {error})", where=url, remedy=tried) from error
    if reply.status < 300:
        try:
            return msgspec.json.decode(answer, type=kind)
        except msgspec.DecodeError as error:
            raise EvidenceError(f"does not speak vLLM's interface: {error}", where=url) from error
    problem = f"HTTP {reply.status}: {answer[:200].decode(errors='replace')}"
    if reply.status == 400:
        raise RefusedError(problem, where=url)
    if reply.status < 500:
        raise EvidenceError(problem, where=url)
    raise UnavailableError(f"does not answer ({problem})", where=url, remedy=tried)
