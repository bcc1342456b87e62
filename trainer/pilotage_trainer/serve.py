"""`pilotage-serve`: a count model behind vLLM's interface. Raw ASGI: routes, errors, metrics, start-up.

The server sees the serialised dialog and nothing else. Not here: shapes (vllm.py), answers (models.py).
"""

import argparse
import logging
import sys
import time
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from pilotage_trainer import vllm
from pilotage_trainer.failures import EXIT_DAMAGED, DamagedArtefactError
from pilotage_trainer.models import ServedCritic, ServedPolicy, find_foreign_code, load_models, read_logprob

LARGEST_BODY = 4 << 20
JSON = b"application/json"
BUCKETS = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0)

log = logging.getLogger("pilotage.serve")

Served = TypeVar("Served", ServedPolicy, ServedCritic)
Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


class RequestError(Exception):
    """A request that gets an error reply, as vLLM words it."""

    def __init__(self, code: int, kind: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.reply = vllm.ErrorReply(vllm.ErrorInfo(message, kind, code, param))


def bad_request(message: str, param: str | None = None) -> RequestError:
    """The request does not make sense: 400."""
    return RequestError(400, "BadRequestError", message, param)


class ModelServer:
    """The ASGI application over a policy, a critic, or both."""

    def __init__(self, policy: ServedPolicy | None, critic: ServedCritic | None) -> None:
        self.policy = policy
        self.critic = critic
        self.started = int(time.time())
        self.registry = CollectorRegistry()
        self._finished = Counter(
            "vllm:request_success", "Requests answered", ["model_name", "finished_reason"], registry=self.registry
        )
        self._failed = Counter("pilotage_serve_errors", "Requests refused", ["path", "code"], registry=self.registry)
        self._seconds = Histogram(
            "vllm:e2e_request_latency_seconds",
            "Time to answer",
            ["model_name"],
            buckets=BUCKETS,
            registry=self.registry,
        )
        self._prompt_tokens = Counter("vllm:prompt_tokens", "Lines read", ["model_name"], registry=self.registry)
        self._answers: dict[str, tuple[str, Callable[[bytes], Any]]] = {
            "/v1/chat/completions": (vllm.POLICY, self.chat),
            "/v1/completions": (vllm.POLICY, self.complete),
            "/generative_scoring": (vllm.CRITIC, self.score),
            "/tokenize": (vllm.CRITIC, self.tokenize),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request."""
        if scope["type"] != "http":
            raise ValueError(f"serves HTTP, not {scope['type']}")
        code, kind, body = 200, JSON, b""
        try:
            kind, body = await self._answer(scope["method"], scope["path"], receive)
        except RequestError as error:
            code, body = error.code, msgspec.json.encode(error.reply)
            known = scope["path"] if scope["path"] in self._answers else "other"
            self._failed.labels(known, str(code)).inc()
        headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": code, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _answer(self, method: str, path: str, receive: Receive) -> tuple[bytes, bytes]:
        match method, path:
            case "GET", "/health":
                return b"text/plain", b""
            case "GET", "/metrics":
                return CONTENT_TYPE_LATEST.encode(), generate_latest(self.registry)
            case "GET", "/v1/models":
                return JSON, msgspec.json.encode(self.list_models())
            case "POST", _ if path in self._answers:
                model, answer = self._answers[path]
                body = await _read_body(receive)
                began = time.perf_counter()
                reply = msgspec.json.encode(answer(body))
                self._seconds.labels(model).observe(time.perf_counter() - began)
                self._finished.labels(model, "stop").inc()
                return JSON, reply
        if path in self._answers or path in ("/health", "/metrics", "/v1/models"):
            raise RequestError(405, "MethodNotAllowedError", "Method Not Allowed")
        raise RequestError(404, "NotFoundError", "Not Found")

    def list_models(self) -> vllm.ModelList:
        """What is served, each with its artefact's digest."""
        served = ((vllm.POLICY, self.policy), (vllm.CRITIC, self.critic))
        return vllm.ModelList([vllm.ModelCard(name, m.manifest.digest, self.started) for name, m in served if m])

    def chat(self, body: bytes) -> vllm.ChatReply:
        """`/v1/chat/completions`: the last user message is the prompt."""
        request = _decode(body, vllm.ChatRequest)
        if request.stream:
            raise bad_request("streaming is not supported: a reply is one token", "stream")
        content = next((m.content for m in reversed(request.messages) if m.role == "user"), None)
        if content is None:
            raise bad_request("there is no message of role user", "messages")
        prompt = content if isinstance(content, str) else "".join(part.text for part in content)
        text, probability = self._propose(request.model, prompt, request.response_format)
        token = vllm.TokenLogprob(text, read_logprob(probability), list(text.encode()))
        logprobs = vllm.ChatLogprobs([token]) if request.logprobs else None
        choice = vllm.ChatChoice(vllm.ReplyMessage(text), logprobs)
        usage = self._count(vllm.POLICY, prompt, 1)
        return vllm.ChatReply(f"chatcmpl-{uuid.uuid4().hex}", int(time.time()), request.model, [choice], usage)

    def complete(self, body: bytes) -> vllm.CompletionReply:
        """`/v1/completions`."""
        request = _decode(body, vllm.CompletionRequest)
        if request.stream:
            raise bad_request("streaming is not supported: a reply is one token", "stream")
        text, probability = self._propose(request.model, request.prompt, request.response_format)
        told = vllm.CompletionLogprobs([text], [read_logprob(probability)], [None], [0])
        choice = vllm.CompletionChoice(text, told if request.logprobs is not None else None)
        usage = self._count(vllm.POLICY, request.prompt, 1)
        return vllm.CompletionReply(f"cmpl-{uuid.uuid4().hex}", int(time.time()), request.model, [choice], usage)

    def score(self, body: bytes) -> vllm.ScoringReply:
        """`/generative_scoring`: P(first label) after each item."""
        request = _decode(body, vllm.ScoringRequest)
        critic = require_served(self.critic, vllm.CRITIC, request.model)
        if not request.label_token_ids:
            raise bad_request("label_token_ids must contain at least one token ID.")
        for token in request.label_token_ids:
            if not 0 <= token < len(vllm.VOCABULARY):
                raise bad_request(f"label_token_id {token} is out of vocabulary range [0, {len(vllm.VOCABULARY)}).")
        if not request.items:
            raise bad_request("items must contain at least one item.")
        data, lines = [], 0
        for index, item in enumerate(request.items):
            query = item + request.query if request.item_first else request.query + item
            try:
                accept = critic.score(query)
            except (ValueError, msgspec.DecodeError) as error:
                raise bad_request(f"item {index}: {error}", "query") from error
            data.append(vllm.ItemScore(index, weigh_labels(accept, request.label_token_ids, request.apply_softmax)))
            lines += query.count("\n") + 1
        usage = vllm.Usage(lines, lines + len(data), len(data))
        self._prompt_tokens.labels(vllm.CRITIC).inc(lines)
        name = f"generative-scoring-{uuid.uuid4().hex}"
        return vllm.ScoringReply(name, int(time.time()), request.model, data, usage)

    def tokenize(self, body: bytes) -> vllm.TokenizeReply:
        """`/tokenize`: only the critic's two words are tokens here."""
        request = _decode(body, vllm.TokenizeRequest)
        if request.prompt not in vllm.VOCABULARY:
            raise bad_request(f"a count model's vocabulary is {' and '.join(vllm.VOCABULARY)}", "prompt")
        return vllm.TokenizeReply(1, [vllm.VOCABULARY.index(request.prompt)])

    def _propose(self, model: str, prompt: str, form: vllm.ResponseFormat | None) -> tuple[str, float]:
        policy = require_served(self.policy, vllm.POLICY, model)
        schema = form.json_schema.schema if form is not None and form.json_schema is not None else None
        try:
            return policy.propose(prompt, schema)
        except (ValueError, msgspec.DecodeError) as error:
            raise bad_request(str(error)) from error

    def _count(self, model: str, prompt: str, replied: int) -> vllm.Usage:
        lines = prompt.count("\n") + 1
        self._prompt_tokens.labels(model).inc(lines)
        return vllm.Usage(lines, lines + replied, replied)


def weigh_labels(accept: float, labels: list[int], apply_softmax: bool) -> float:
    """P of the first of `labels`: among them (softmax), or of the whole vocabulary."""
    probabilities = {vllm.ACCEPT_TOKEN_ID: accept, vllm.REJECT_TOKEN_ID: 1.0 - accept}
    first = probabilities[labels[0]]
    return first / sum(probabilities[label] for label in set(labels)) if apply_softmax else first


def require_served(served: Served | None, name: str, asked: str) -> Served:
    """`served`, where it is there and `asked` is its name; else 404, as vLLM answers for a model it does not have."""
    if served is None or asked != name:
        raise RequestError(404, "NotFoundError", f"The model `{asked}` does not exist.", "model")
    return served


Request = TypeVar("Request", vllm.ChatRequest, vllm.CompletionRequest, vllm.ScoringRequest, vllm.TokenizeRequest)


def _decode(body: bytes, kind: type[Request]) -> Request:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise bad_request(str(error)) from error


async def _read_body(receive: Receive) -> bytes:
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise bad_request("the request ended early")
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > LARGEST_BODY:
            raise RequestError(413, "BadRequestError", f"the request is larger than {LARGEST_BODY} bytes")
        if not message.get("more_body"):
            return b"".join(parts)


def main() -> None:
    """Load an artefact, check it, serve it until SIGTERM. Exits with 6 where the artefact is damaged."""
    parser = argparse.ArgumentParser(prog="pilotage-serve", description="Serve a count model behind vLLM's interface.")
    parser.add_argument(
        "--artefact", type=Path, required=True, help="policy/, critic/, or the revision that holds both"
    )
    parser.add_argument("--listen", default="0.0.0.0:8080", help="HOST:PORT")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    host, _, port = options.listen.rpartition(":")
    if not port.isdigit():
        parser.error(f"--listen {options.listen}: expected HOST:PORT")
    try:
        policy, critic = load_models(options.artefact)
    except DamagedArtefactError as error:
        sys.stderr.write(f"pilotage-serve: {error}\n")
        raise SystemExit(EXIT_DAMAGED) from error
    for served in (policy, critic):
        if served is not None:
            log.info("%s %s of %s", served.manifest.kind, served.manifest.digest, served.manifest.process_cluster)
            if warning := find_foreign_code(served.manifest):
                log.warning("%s: %s", served.manifest.kind, warning)
    import uvicorn  # here, so that asking for --help or failing on an artefact does not wait for it

    uvicorn.run(
        ModelServer(policy, critic), host=host or "0.0.0.0", port=int(port), access_log=False, lifespan="off",
        log_level="warning", timeout_graceful_shutdown=5,
    )  # fmt: skip


if __name__ == "__main__":
    main()
