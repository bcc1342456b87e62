"""Policy and critic over vLLM's interface: one attempt, one second, a breaker for each endpoint.

In: a prompt and a schema. Out: a typed reply or ModelError. What a reply is worth is decided in asking.py.
"""

import asyncio
import time
from dataclasses import dataclass
from typing import Any

import aiohttp
import msgspec

from pilotage_core.dialog import ACCEPT, REJECT, VERDICT_MARK
from pilotage_core.errors import UnavailableError
from pilotage_core.score import read_confidence

TIMEOUT_SECONDS = 1.0
FAILURES_TO_OPEN = 5
PROBE_AFTER_SECONDS = 2.0
MAX_TOKENS = 512
JSON_HEADERS = {"Content-Type": "application/json"}
REFUSALS = frozenset({400, 413, 422})


class ModelError(UnavailableError):
    """A policy or critic did not answer, or not in the agreed form."""


class RefusedError(ModelError):
    """A policy or critic is there and does not take this request: a prompt that is longer than it reads."""


class _Message(msgspec.Struct):
    content: str


class _TokenLogprob(msgspec.Struct):
    logprob: float


class _Logprobs(msgspec.Struct):
    content: list[_TokenLogprob] | None = None


class _Choice(msgspec.Struct):
    message: _Message
    logprobs: _Logprobs | None = None


class _ChatReply(msgspec.Struct):
    choices: list[_Choice]


class _Score(msgspec.Struct):
    score: float


class _ScoringReply(msgspec.Struct):
    data: list[_Score]


class _TokenizeReply(msgspec.Struct):
    tokens: list[int]


@dataclass(frozen=True, slots=True)
class PolicyReply:
    """The policy's text, and its own probability of it (exp of the mean log probability; None: not told)."""

    text: str
    confidence: float | None


@dataclass(slots=True)
class Breaker:
    """Opens after five failures in a row; after two seconds one probe may pass."""

    failures: int = 0
    probe_at: float = 0.0

    def allows(self, now: float) -> bool:
        """Whether a request may be made now. In the half-open state only the first asker gets leave."""
        if self.failures < FAILURES_TO_OPEN:
            return True
        if now < self.probe_at:
            return False
        self.probe_at = now + PROBE_AFTER_SECONDS
        return True

    def note(self, ok: bool, now: float) -> None:
        """Take in how a request went."""
        self.failures = 0 if ok else self.failures + 1
        if self.failures >= FAILURES_TO_OPEN:
            self.probe_at = now + PROBE_AFTER_SECONDS


class Models:
    """HTTP client of all policies and critics, with kept connections."""

    def __init__(self) -> None:
        self._client: aiohttp.ClientSession | None = None
        self._breakers: dict[str, Breaker] = {}
        self._encode = msgspec.json.Encoder().encode
        self._chat = msgspec.json.Decoder(_ChatReply)
        self._scoring = msgspec.json.Decoder(_ScoringReply)
        self._tokens = msgspec.json.Decoder(_TokenizeReply)
        self._labels: dict[tuple[str, str], list[int]] = {}

    async def open(self) -> None:
        """Make the client (inside a running loop)."""
        self._client = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=TIMEOUT_SECONDS),
            connector=aiohttp.TCPConnector(limit=0, limit_per_host=256, keepalive_timeout=60),
            auto_decompress=False,
        )

    async def close(self) -> None:
        """Close all connections."""
        if self._client is not None:
            await self._client.close()

    async def propose(self, url: str, prompt: str, schema: dict[str, Any]) -> PolicyReply:
        """Ask a policy to continue `prompt` with one action that fits `schema`. Raises ModelError."""
        body = {
            "model": "policy",
            "messages": [{"role": "user", "content": prompt}],
            "response_format": {"type": "json_schema", "json_schema": {"name": "action", "schema": schema}},
            "max_tokens": MAX_TOKENS,
            "temperature": 0,
            "logprobs": True,
        }
        reply: _ChatReply = await self._ask(url, "/v1/chat/completions", body, self._chat)
        if not reply.choices:
            raise ModelError("the policy gave no choice", where=url)
        choice = reply.choices[0]
        tokens = choice.logprobs.content if choice.logprobs and choice.logprobs.content else []
        return PolicyReply(choice.message.content, read_confidence([token.logprob for token in tokens]))

    async def score(self, url: str, critic: str, query: str) -> float:
        """P(accept) of what `query` ends with, by the critic of digest `critic`. Raises ModelError.

        May be any float: the gate judges it. The verdict is asked for in an item of its own: vLLM turns query and item
        into tokens apart, and so they were in training.
        """
        body = {
            "model": "critic",
            "query": query,
            "items": [VERDICT_MARK],
            "label_token_ids": await self._find_labels(url, critic),
            "apply_softmax": True,
            "add_special_tokens": False,
        }
        reply: _ScoringReply = await self._ask(url, "/generative_scoring", body, self._scoring)
        if not reply.data:
            raise ModelError("the critic gave no score", where=url)
        return reply.data[0].score

    async def _find_labels(self, url: str, critic: str) -> list[int]:
        """The ids of accept and reject, asked for once: another critic at the same address may have others."""
        if (url, critic) not in self._labels:
            bodies = [{"model": "critic", "prompt": word, "add_special_tokens": False} for word in (ACCEPT, REJECT)]
            replies: list[_TokenizeReply] = await asyncio.gather(
                *(self._ask(url, "/tokenize", body, self._tokens) for body in bodies)
            )
            if any(len(reply.tokens) != 1 for reply in replies):
                raise ModelError(f"the critic splits {ACCEPT!r} or {REJECT!r}", where=url)
            self._labels = {key: ids for key, ids in self._labels.items() if key[0] != url}
            self._labels[url, critic] = [reply.tokens[0] for reply in replies]
        return self._labels[url, critic]

    async def _ask(self, url: str, path: str, body: dict[str, Any], decoder: msgspec.json.Decoder[Any]) -> Any:
        breaker = self._breakers.setdefault(url + path, Breaker())
        if not breaker.allows(time.monotonic()):
            raise ModelError("the breaker is open after failures in a row", where=url + path)
        if self._client is None:
            raise ModelError("the gateway is not open", where=url + path)
        ok = False
        try:
            async with self._client.post(url + path, data=self._encode(body), headers=JSON_HEADERS) as response:
                answer = await response.read()
                if response.status in REFUSALS:
                    ok = True  # of this prompt, not of the server: no other session is to lose its policy for it
                    raise RefusedError(f"HTTP {response.status}: {answer[:200]!r}", where=url + path)
                if response.status != 200:
                    raise ModelError(f"HTTP {response.status}: {answer[:200]!r}", where=url + path)
            reply = decoder.decode(answer)
            ok = True
            return reply
        except (aiohttp.ClientError, TimeoutError, OSError, msgspec.MsgspecError) as error:
            raise ModelError(f"{type(error).__name__}: {error}", where=url + path) from error
        finally:
            breaker.note(ok, time.monotonic())
