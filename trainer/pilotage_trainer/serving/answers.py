"""What is answered to vLLM's requests: bytes in, a typed reply or RequestError out. No HTTP; that is in serve.py."""

import time
import uuid
from itertools import accumulate
from typing import TypeVar

import msgspec

from pilotage_core.errors import InvalidInputError
from pilotage_trainer.backends import vllm
from pilotage_trainer.backends.interface import Answer, AnyCritic, AnyPolicy

Served = TypeVar("Served", AnyPolicy, AnyCritic)
Request = TypeVar("Request", vllm.ChatRequest, vllm.CompletionRequest, vllm.ScoringRequest, vllm.TokenizeRequest)
Reply = vllm.ChatReply | vllm.CompletionReply | vllm.ScoringReply | vllm.TokenizeReply


class RequestError(Exception):
    """A request that gets an error reply, as vLLM words it."""

    def __init__(self, code: int, kind: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.reply = vllm.ErrorReply(vllm.ErrorInfo(message, kind, code, param))


def bad_request(message: str, param: str | None = None) -> RequestError:
    """The request does not make sense: 400."""
    return RequestError(400, "BadRequestError", message, param)


class Answers:
    """Everything that a policy, a critic, or both can be asked."""

    def __init__(self, policy: AnyPolicy | None, critic: AnyCritic | None) -> None:
        self.policy = policy
        self.critic = critic
        self.started = int(time.time())

    def list_models(self) -> vllm.ModelList:
        """What is served, each with its artefact's digest."""
        served = ((vllm.POLICY, self.policy), (vllm.CRITIC, self.critic))
        cards = [
            vllm.ModelCard(name, model.manifest.digest, self.started, max_model_len=model.longest)
            for name, model in served
            if model is not None
        ]
        return vllm.ModelList(cards)

    def chat(self, body: bytes) -> vllm.ChatReply:
        """`/v1/chat/completions`: the last user message is the prompt."""
        request = _decode(body, vllm.ChatRequest)
        if request.stream:
            raise bad_request("streaming is not supported: a reply is one token", "stream")
        content = next((m.content for m in reversed(request.messages) if m.role == "user"), None)
        if content is None:
            raise bad_request("there is no message of role user", "messages")
        prompt = content if isinstance(content, str) else "".join(part.text for part in content)
        answer = self._propose(request.model, prompt, request.response_format, request.max_tokens)
        tokens = [vllm.TokenLogprob(text, logprob, list(text.encode())) for text, logprob in answer.tokens]
        choice = vllm.ChatChoice(
            vllm.ReplyMessage(answer.text),
            vllm.ChatLogprobs(tokens) if request.logprobs else None,
            finish_reason="stop" if answer.finished else "length",
        )
        name = f"chatcmpl-{uuid.uuid4().hex}"
        return vllm.ChatReply(name, int(time.time()), request.model, [choice], _count(answer))

    def complete(self, body: bytes) -> vllm.CompletionReply:
        """`/v1/completions`."""
        request = _decode(body, vllm.CompletionRequest)
        if request.stream:
            raise bad_request("streaming is not supported: a reply is one token", "stream")
        answer = self._propose(request.model, request.prompt, request.response_format, request.max_tokens)
        starts = accumulate((len(text) for text, _ in answer.tokens), initial=0)
        told = vllm.CompletionLogprobs(
            [text for text, _ in answer.tokens],
            [logprob for _, logprob in answer.tokens],
            [None] * len(answer.tokens),
            list(starts)[:-1],
        )
        choice = vllm.CompletionChoice(
            answer.text,
            told if request.logprobs is not None else None,
            finish_reason="stop" if answer.finished else "length",
        )
        name = f"cmpl-{uuid.uuid4().hex}"
        return vllm.CompletionReply(name, int(time.time()), request.model, [choice], _count(answer))

    def score(self, body: bytes) -> vllm.ScoringReply:
        """`/generative_scoring`: P(first label) after each item."""
        request = _decode(body, vllm.ScoringRequest)
        critic = require_served(self.critic, vllm.CRITIC, request.model)
        if not request.label_token_ids:
            raise bad_request("label_token_ids must contain at least one token ID.")
        for token in request.label_token_ids:
            if not 0 <= token < critic.vocabulary:
                raise bad_request(f"label_token_id {token} is out of vocabulary range [0, {critic.vocabulary}).")
        if not request.items:
            raise bad_request("items must contain at least one item.")
        parts = [(item, request.query) if request.item_first else (request.query, item) for item in request.items]
        try:
            scores = critic.weigh(parts, request.label_token_ids, request.apply_softmax)
        except (ValueError, msgspec.DecodeError, InvalidInputError) as error:
            raise bad_request(str(error), "query") from error
        read = critic.count_tokens(request.query) * len(parts) + sum(map(critic.count_tokens, request.items))
        name = f"generative-scoring-{uuid.uuid4().hex}"
        data = [vllm.ItemScore(index, score) for index, score in enumerate(scores)]
        usage = vllm.Usage(read, read + len(data), len(data))
        return vllm.ScoringReply(name, int(time.time()), request.model, data, usage)

    def tokenize(self, body: bytes) -> vllm.TokenizeReply:
        """`/tokenize`: how a client learns the ids of accept and reject."""
        request = _decode(body, vllm.TokenizeRequest)
        served: AnyPolicy | AnyCritic
        if request.model == vllm.POLICY:
            served = require_served(self.policy, vllm.POLICY, request.model)
        else:
            served = require_served(self.critic, vllm.CRITIC, request.model)
        try:
            ids = served.tokenize(request.prompt)
        except ValueError as error:
            raise bad_request(str(error), "prompt") from error
        return vllm.TokenizeReply(len(ids), ids, served.longest)

    def _propose(self, model: str, prompt: str, form: vllm.ResponseFormat | None, longest: int | None) -> Answer:
        policy = require_served(self.policy, vllm.POLICY, model)
        schema = form.json_schema.schema if form is not None and form.json_schema is not None else None
        try:
            return policy.answer(prompt, schema, longest or vllm.LONGEST_REPLY)
        except (ValueError, msgspec.DecodeError, InvalidInputError) as error:
            raise bad_request(str(error)) from error


def _count(answer: Answer) -> vllm.Usage:
    read, written = answer.prompt_tokens, len(answer.tokens)
    return vllm.Usage(read, read + written, written)


def require_served(served: Served | None, name: str, asked: str) -> Served:
    """`served`, where it is there and `asked` is its name; else 404, as vLLM answers for a model it does not have."""
    if served is None or asked != name:
        raise RequestError(404, "NotFoundError", f"The model `{asked}` does not exist.", "model")
    return served


def _decode(body: bytes, kind: type[Request]) -> Request:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise bad_request(str(error)) from error
