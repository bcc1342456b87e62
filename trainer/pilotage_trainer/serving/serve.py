"""`pilotage-serve`: our models behind vLLM's interface. Routes, errors, metrics, start-up, on Starlette.

The server sees the serialised dialog and nothing else. Not here: shapes (vllm.py), answers (answers.py), models
(backends/). Why not KServe's own server: docs/decisions/035.
"""

import argparse
import asyncio
import logging
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

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
JSON = "application/json"
BUCKETS = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0)
UNKNOWN = {404: ("NotFoundError", "Not Found"), 405: ("MethodNotAllowedError", "Method Not Allowed")}
"""What vLLM says of paths and methods that it does not have."""

log = logging.getLogger("pilotage.serve")


class ModelServer:
    """A policy, a critic, or both, and what is counted of their answers.

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
        self.failed = Counter("pilotage_serve_errors", "Requests refused", ["path", "code"], registry=self.registry)
        self._seconds = Histogram(
            "vllm:e2e_request_latency_seconds",
            "Time to answer",
            ["model_name"],
            buckets=BUCKETS,
            registry=self.registry,
        )
        self._prompt_tokens = Counter("vllm:prompt_tokens", "Lines read", ["model_name"], registry=self.registry)

    async def reply(self, model: str, answer: Callable[[bytes], Reply], body: bytes) -> Response:
        """The reply to `body`. Raises RequestError."""
        began = time.perf_counter()
        reply = await self._run(answer, body)
        if not isinstance(reply, vllm.TokenizeReply):
            self._prompt_tokens.labels(model).inc(reply.usage.prompt_tokens)
        self._seconds.labels(model).observe(time.perf_counter() - began)
        self._finished.labels(model, "stop").inc()
        return Response(msgspec.json.encode(reply), media_type=JSON)

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


def build_app(server: ModelServer) -> Starlette:
    """The ASGI application: paths and errors as vLLM has them."""
    answers: dict[str, tuple[str, Callable[[bytes], Reply]]] = {
        "/v1/chat/completions": (vllm.POLICY, server.answers.chat),
        "/v1/completions": (vllm.POLICY, server.answers.complete),
        "/generative_scoring": (vllm.CRITIC, server.answers.score),
        "/tokenize": (vllm.CRITIC, server.answers.tokenize),
    }

    async def answer(request: Request) -> Response:
        model, make = answers[request.url.path]
        return await server.reply(model, make, await _read_body(request))

    async def health(_: Request) -> Response:
        return Response(media_type="text/plain")

    async def metrics(_: Request) -> Response:
        return Response(generate_latest(server.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def models(_: Request) -> Response:
        return Response(msgspec.json.encode(server.answers.list_models()), media_type=JSON)

    async def refuse(request: Request, error: Exception) -> Response:
        if isinstance(error, HTTPException):
            error = RequestError(error.status_code, *UNKNOWN.get(error.status_code, ("BadRequestError", error.detail)))
        assert isinstance(error, RequestError)
        path = request.url.path
        server.failed.labels(path if path in answers else "other", str(error.code)).inc()
        return Response(msgspec.json.encode(error.reply), error.code, media_type=JSON)

    return Starlette(
        routes=[
            Route("/health", health),
            Route("/metrics", metrics),
            Route("/v1/models", models),
            *(Route(path, answer, methods=["POST"]) for path in answers),
        ],
        exception_handlers={RequestError: refuse, HTTPException: refuse},
    )


async def _read_body(request: Request) -> bytes:
    parts, size = [], 0
    try:
        async for part in request.stream():
            parts.append(part)
            size += len(part)
            if size > LARGEST_BODY:
                raise RequestError(413, "BadRequestError", f"the request is larger than {LARGEST_BODY} bytes")
    except ClientDisconnect as error:
        raise bad_request("the request ended early") from error
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

    app = build_app(ModelServer(policy, critic))
    uvicorn.run(
        app, host=host or "0.0.0.0", port=int(port), access_log=False, lifespan="off", log_level="warning",
        timeout_graceful_shutdown=5,
    )  # fmt: skip


if __name__ == "__main__":
    main()
