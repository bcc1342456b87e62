"""The gateway's neighbours: a controller that signs permits, a model server, and an adapter that posts events.

`run_gateway` runs the real application behind real HTTP in this process; tests of crashes start it as a process.
"""

import asyncio
import itertools
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import uvicorn
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import select
from uuid_utils import uuid7

from pilotage_core.actions import Action, ActionPattern, ActionRules, StratumRule, Tool
from pilotage_core.certificate import Certificate, EvidenceDigests
from pilotage_core.dialog import ACCEPT, DEFAULT_FORMAT, REJECT, encode_action
from pilotage_core.events import (
    ActionTaken,
    Author,
    Closing,
    Event,
    FeedbackGiven,
    Happening,
    MessagePosted,
    Outcome,
    OutcomeReported,
    ScreenShown,
    SessionClosed,
    SessionOpened,
    Verdict,
)
from pilotage_core.permit import Permit, signing_input
from pilotage_core.screen import Control, ControlKind, Screen, ScreenSchema
from pilotage_core.snapshot import Parts, Snapshot
from pilotage_core.stage import Stage
from pilotage_core.wire import (
    Leave,
    MatchExpression,
    PairRef,
    PermitReply,
    PermitRequest,
    PostEvents,
    SignedPermit,
    Turn,
)
from pilotage_gateway.app import build_app, end_streams
from pilotage_gateway.callers import Callers
from pilotage_gateway.tables import decisions

STAR = "star/bookings"
SUBMIT = Action(Tool.CLICK_CONTROL, "submit-booking")
OPEN = Action(Tool.OPEN_PROCEDURE, "book")
FORM = Screen(
    name="form",
    controls=(
        Control("submit-booking", ControlKind.BUTTON, "Book"),
        Control("book", ControlKind.PROCEDURE, "Book a hotel"),
        Control("hello", ControlKind.REPLY, "Hello", value="Hello, how can I help?"),
    ),
)
RESULT = Screen(name="result", controls=FORM.controls, facts=(("state", "booked"),))
SCREENS = (ScreenSchema("form", applies="#form"), ScreenSchema("result", applies="#result"))
"""What recognises typed screens of these names."""
RULES = ActionRules(
    strata=(StratumRule(ActionPattern(tool="click_control", control="submit*"), "procedure"),),
    unattended_in_copilot=(ActionPattern(tool="open_procedure", control="unattended*"),),
)


def build_certificate(tau: float, policy: str = "p1", critic: str = "c1", stratum: str = "procedure") -> Certificate:
    return Certificate(
        process_cluster=STAR,
        stratum=stratum,
        tau=tau,
        n=500,
        selected=400,
        errors=10,
        target=0.9,
        delta=0.05,
        bound=0.93,
        coverage=0.8,
        design_effect=1.1,
        icc=0.01,
        labels_from="live",
        digests=EvidenceDigests("d", policy, critic, DEFAULT_FORMAT.digest, "a", "s", "i"),
        median_session_actions=2.0,
        session_bound=0.86,
        issued_at="2026-01-01T00:00:00Z",
    )


def build_leave(stage: Stage, models_url: str, **changes: Any) -> Leave:
    return msgspec.structs.replace(
        Leave(
            name="bookings",
            namespace="star",
            stage=stage,
            pair=PairRef("r1", "p1", "c1", models_url, models_url),
            certificates={"procedure": build_certificate(0.8)},
            rules=RULES,
            audit_share=0.0,
            review_share=0.0,
            screens=SCREENS,
        ),
        **changes,
    )


async def until(holds: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(seconds):
        while True:
            if holds():
                return
            await asyncio.sleep(0.005)


@asynccontextmanager
async def serve(routes: list[web.RouteDef]) -> AsyncIterator[str]:
    """An HTTP server on a free port; gives its URL."""
    app = web.Application(client_max_size=64 << 20)
    app.add_routes(routes)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    try:
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


class StubController:
    """Signs permits for its snapshot. `bend` changes a reply before it leaves; `polls` are the requests so far."""

    def __init__(self, snapshot: Snapshot, ttl_ms: int = 10_000, epoch: int = 1, kid: str = "k1") -> None:
        self.key = Ed25519PrivateKey.generate()
        self.snapshot = snapshot
        self.ttl_ms, self.epoch, self.kid, self.domain = ttl_ms, epoch, kid, "test/pilotage-system"
        self.polls: list[PermitRequest] = []
        self.bend: Callable[[PermitRequest, PermitReply], PermitReply | None] = lambda _, reply: reply
        self.changed = asyncio.Event()
        self.down = False

    def publish(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.changed.set()

    def sign(self, nonce: str, **changes: Any) -> SignedPermit:
        permit = Permit(self.domain, self.epoch, nonce, self.ttl_ms, self.snapshot.digest)
        permit = msgspec.structs.replace(permit, **changes)
        return SignedPermit(msgspec.json.encode(permit), self.key.sign(signing_input(permit)), self.kid)

    def write_key(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        (folder / f"{self.kid}.pub").write_bytes(self.key.public_key().public_bytes_raw())

    async def answer(self, request: web.Request) -> web.Response:
        asked = msgspec.json.decode(await request.read(), type=PermitRequest)
        self.polls.append(asked)
        if self.down:
            return web.Response(status=503)
        parts = Parts(self.snapshot.leaves)
        if asked.held == tuple(parts.digests):
            with suppress(TimeoutError):
                await asyncio.wait_for(self.changed.wait(), asked.wait_seconds)
        self.changed.clear()
        reply = self.bend(asked, PermitReply(self.sign(asked.nonce), build_parts(self.snapshot, asked.held)))
        return web.Response(body=msgspec.json.encode(reply)) if reply is not None else web.Response(status=503)


@dataclass
class StubModels:
    """A model server that answers what it is told to. `prompts` are the policy's so far."""

    action: Action | None = SUBMIT
    score: Any = 0.95
    confidence: float = 0.7
    failing: bool = False
    status: int = 200
    delay: float = 0.0
    prompts: list[str] = field(default_factory=list)
    requests: list[dict[str, Any]] = field(default_factory=list)
    url: str = ""

    async def chat(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.requests.append(body)
        self.prompts.append(body["messages"][0]["content"])
        await asyncio.sleep(self.delay)
        if self.failing or self.status != 200:
            return web.Response(status=500 if self.failing else self.status)
        text = '{"tool":""}' if self.action is None else encode_action(self.action, DEFAULT_FORMAT)
        logprob = math.log(self.confidence)
        choice = {"message": {"content": text}, "logprobs": {"content": [{"token": text, "logprob": logprob}]}}
        return web.json_response({"choices": [choice]})

    async def scoring(self, request: web.Request) -> web.Response:
        self.requests.append(await request.json())
        return web.json_response({"data": [{"index": 0, "object": "score", "score": self.score}]})

    async def tokenize(self, request: web.Request) -> web.Response:
        token = (REJECT, ACCEPT).index((await request.json())["prompt"])
        return web.json_response({"count": 1, "max_model_len": 1, "tokens": [token], "token_strs": None})


@asynccontextmanager
async def run_models() -> AsyncIterator[StubModels]:
    models = StubModels()
    routes = [
        web.post("/v1/chat/completions", models.chat),
        web.post("/generative_scoring", models.scoring),
        web.post("/tokenize", models.tokenize),
    ]
    async with serve(routes) as models.url:
        yield models


@asynccontextmanager
async def run_controller(controller: StubController) -> AsyncIterator[str]:
    async with serve([web.post("/v1/permits", controller.answer)]) as url:
        yield url


@asynccontextmanager
async def run_gateway(
    database: str, controller: str, keys: Path, callers: Callers | None = None, chain_head: Path | None = None
) -> AsyncIterator["Gateway"]:
    """The real application behind uvicorn, in this process and loop."""
    app = build_app(database, controller, keys, callers, chain_head=chain_head)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, access_log=False, http="httptools"))
    serving = asyncio.create_task(server.serve())
    await until(lambda: server.started or serving.done())
    await until(lambda: serving.done() or app.state.turns is not None)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        async with aiohttp.ClientSession() as client:
            yield Gateway(f"http://127.0.0.1:{port}", client, app)
    finally:
        end_streams(app)
        server.should_exit = True
        await serving


@dataclass
class Gateway:
    """A gateway at `url`, and `app` where it runs in this process."""

    url: str
    client: aiohttp.ClientSession
    app: Any = None
    headers: dict[str, str] = field(default_factory=dict)

    async def get(self, path: str, headers: dict[str, str] | None = None, **query: Any) -> tuple[int, Any]:
        async with self.client.get(self.url + path, params=query, headers=headers or self.headers) as response:
            body = await response.read()
            kind = response.headers.get("content-type", "")
            return response.status, msgspec.json.decode(body) if kind.endswith(("/json", "+json")) else body.decode()

    async def post(self, path: str, body: Any, **headers: str) -> tuple[int, Any]:
        data = body if isinstance(body, bytes) else msgspec.json.encode(body)
        sent = {"content-type": "application/json", **{k.replace("_", "-"): v for k, v in headers.items()}}
        async with self.client.post(self.url + path, data=data, headers=sent) as response:
            return response.status, msgspec.json.decode(await response.read())

    async def metric(self, name: str, **labels: str) -> float | None:
        """One sample of /metrics; None where there is none."""
        for line in (await self.get("/metrics"))[1].splitlines():
            series, _, value = line.rpartition(" ")
            if series.partition("{")[0] == name and all(f'{k}="{v}"' in series for k, v in labels.items()):
                return float(value)
        return None

    async def why(self, session_id: str) -> tuple[str, str]:
        """Decision and reason of a session's last stored verdict: what a turn does not tell of a proposal."""
        last = select(decisions.c.decision, decisions.c.reason).order_by(decisions.c.number.desc()).limit(1)
        row = await self.app.state.turns.store.read(
            lambda connection: connection.execute(last.where(decisions.c.session_id == session_id)).one()
        )
        return row.decision, row.reason

    async def until(self, holds: Callable[[dict[str, Any]], bool], seconds: float = 5.0) -> dict[str, Any]:
        """Wait until /v1/status is as wanted."""
        async with asyncio.timeout(seconds):
            while True:
                status: dict[str, Any] = (await self.get("/v1/status"))[1]
                if holds(status):
                    return status
                await asyncio.sleep(0.01)

    async def until_permit(self) -> None:
        if self.app is not None:
            state = self.app.state
            return await until(lambda: state.turns is not None and state.turns.permits.remaining_ms() > 0)
        await self.until(lambda status: status["permit_remaining_ms"] > 0)


class Case:
    """An adapter with one session: numbers its events and posts them."""

    numbers = itertools.count()

    def __init__(self, gateway: Gateway, session_id: str = "") -> None:
        self.gateway = gateway
        self.session_id = session_id or f"s-{next(self.numbers)}-{str(uuid7())[-6:]}"
        self.sequence = 0
        self.nonces = itertools.count()
        self.last: PostEvents | None = None
        self.headers: dict[str, str] = {}

    def event(self, data: Happening) -> Event:
        event = Event(str(uuid7()), self.sequence, "2026-03-01T10:00:00+01:00", data)
        self.sequence += 1
        return event

    async def post(self, *happenings: Happening, wants_decision: bool = True) -> Turn:
        """Post what happened; fails the test where the gateway refuses it."""
        self.last = PostEvents(tuple(self.event(h) for h in happenings), f"n{next(self.nonces)}", wants_decision)
        status, answer = await self.send(self.last)
        assert status == 200, answer
        return msgspec.convert(answer, Turn)

    async def send(self, post: PostEvents) -> tuple[int, Any]:
        return await self.gateway.post(f"/v1/sessions/{self.session_id}/events", post, **self.headers)

    async def refused(self, *happenings: Happening) -> tuple[int, Any]:
        """Post what the gateway should refuse: the sequence stays where it is."""
        before = self.sequence
        answer = await self.send(PostEvents(tuple(self.event(h) for h in happenings), "n"))
        self.sequence = before
        return answer

    async def again(self) -> tuple[int, Any]:
        """Send the last post once more."""
        assert self.last is not None
        return await self.send(self.last)

    async def begin(self, screen: Screen = FORM, **metadata: str) -> Turn:
        return await self.post(
            SessionOpened(metadata), MessagePosted(Author.CUSTOMER, "Hi"), ScreenShown(screen=screen)
        )

    async def report(self, turn: Turn, outcome: Outcome = Outcome.DONE, screen: Screen | None = RESULT) -> Turn:
        """Report what became of the turn's order."""
        assert turn.order is not None
        reported = OutcomeReported(turn.order.proposal_id, turn.order.idempotency_key, outcome)
        return await self.post(reported, *([ScreenShown(screen=screen)] if screen is not None else []))

    async def answer(self, turn: Turn, verdict: Verdict, *after: Happening) -> Turn:
        """The operator's verdict on the turn's proposal."""
        assert turn.proposal is not None
        return await self.post(FeedbackGiven(turn.proposal.proposal_id, verdict, "ann"), *after)

    async def act(self, *actions: Action, corrects: str = "", screen: Screen = RESULT) -> Turn:
        return await self.post(ActionTaken(actions or (SUBMIT,), "ann", 3.0, corrects), ScreenShown(screen=screen))

    async def close(self) -> Turn:
        return await self.post(SessionClosed(Closing.CLOSED))


LONG_TAIL = Leave(name="long-tail", namespace="star", stage=Stage.LOGGING, rules=RULES)


def build_parts(snapshot: Snapshot, held: tuple[str, ...] = ()) -> dict[int, msgspec.Raw]:
    """The parts of `snapshot` that are not `held`, as a reply has them."""
    parts = Parts(snapshot.leaves)
    known = dict(enumerate(held))
    return {n: msgspec.Raw(body) for n, body in enumerate(parts.bodies) if known.get(n) != parts.digests[n]}


def build_snapshot(*leaves: Leave) -> Snapshot:
    return Snapshot(leaves)


BOOKINGS_ONLY = (MatchExpression("domain", "NotIn", ("other",)),)
