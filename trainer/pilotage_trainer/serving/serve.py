"""`pilotage-serve`: our models behind vLLM's interface. Raw ASGI: routes, errors, metrics, start-up.

The server sees the serialised dialog and nothing else. Not here: shapes (vllm.py), answers (answers.py),
models (models.py).
"""

import argparse
import asyncio
import logging
import sys
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from pilotage_core.errors import EvidenceError
from pilotage_trainer.backends import vllm
from pilotage_trainer.backends.interface import AnyCritic, AnyPolicy
from pilotage_trainer.backends.open import find_foreign_code, load_models
from pilotage_trainer.failures import find_exit_code
from pilotage_trainer.serving.answers import Answers, Reply, RequestError, bad_request

LARGEST_BODY = 4 << 20
LONGEST_QUEUE = 64
"""Requests that may wait for a transformer; one more is told to come again."""
PATIENCE_SECONDS = 10.0
"""How long a request may wait; past it whoever asked has gone."""
JSON = b"application/json"
BUCKETS = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0)

log = logging.getLogger("pilotage.serve")

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


class ModelServer:
    """The ASGI application over a policy, a critic, or both.

    A transformer answers in one thread of its own, one request after the other, so that the loop stays free for health.
    """

    def __init__(self, policy: AnyPolicy | None, critic: AnyCritic | None) -> None:
        self.answers = Answers(policy, critic)
        self._waiting = 0
        is_busy = any(served is not None and served.busy for served in (policy, critic))
        self._thread = ThreadPoolExecutor(1, "inference") if is_busy else None
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
        self._answers: dict[str, tuple[str, Callable[[bytes], Reply]]] = {
            "/v1/chat/completions": (vllm.POLICY, self.answers.chat),
            "/v1/completions": (vllm.POLICY, self.answers.complete),
            "/generative_scoring": (vllm.CRITIC, self.answers.score),
            "/tokenize": (vllm.CRITIC, self.answers.tokenize),
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
                return JSON, msgspec.json.encode(self.answers.list_models())
            case "POST", _ if path in self._answers:
                model, answer = self._answers[path]
                body = await _read_body(receive)
                began = time.perf_counter()
                reply = await self._run(answer, body)
                if not isinstance(reply, vllm.TokenizeReply):
                    self._prompt_tokens.labels(model).inc(reply.usage.prompt_tokens)
                self._seconds.labels(model).observe(time.perf_counter() - began)
                self._finished.labels(model, "stop").inc()
                return JSON, msgspec.json.encode(reply)
        if path in self._answers or path in ("/health", "/metrics", "/v1/models"):
            raise RequestError(405, "MethodNotAllowedError", "Method Not Allowed")
        raise RequestError(404, "NotFoundError", "Not Found")

    async def _run(self, answer: Callable[[bytes], Reply], body: bytes) -> Reply:
        """The reply to `body`, made here or in the thread. Raises RequestError."""
        if self._thread is None:
            return answer(body)
        if self._waiting >= LONGEST_QUEUE:
            raise RequestError(503, "ServiceUnavailableError", f"{LONGEST_QUEUE} requests are waiting: ask again later")
        asked = time.monotonic()

        def make() -> Reply:
            if time.monotonic() - asked > PATIENCE_SECONDS:
                raise RequestError(503, "ServiceUnavailableError", f"waited for more than {PATIENCE_SECONDS:g} s")
            return answer(body)

        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, make)
        finally:
            self._waiting -= 1


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
    """Load an artefact, check it, serve it until SIGTERM. Exits with 6 where the artefact is damaged, 9 and 10 for
    tokenizers and base models that do not do."""
    parser = argparse.ArgumentParser(prog="pilotage-serve", description="Serve our models behind vLLM's interface.")
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
    except EvidenceError as error:
        sys.stderr.write(f"pilotage-serve: {error}\n")
        raise SystemExit(find_exit_code(error)) from error
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
