"""How many decisions a second does one gateway make on one core, and how much time does it add to each?

    python bench/gateway.py [--seconds 12] [--rate 300] [--output bench/results/gateway.json]

The real process on the durable path (SQLite, WAL, synchronous=FULL), pinned to one core: every post brings an outcome
and an HTML screen, is stored, asks a policy and a critic (stubs that answer at once, in a process of their own), is
gated, and stores decision, proposal and intent before its order leaves; each is scored and ordered, or the run fails.
Load, stubs and controller have the other core. Two runs: an open loop at --rate (each latency counts from when the post
was due), then a closed loop at most load.
"""

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from provenance import describe_run  # noqa: E402
from stubs.gateway import LONG_TAIL, SUBMIT, StubController, build_leave, build_snapshot, run_controller  # noqa: E402
from uuid_utils import uuid7  # noqa: E402

from pilotage_core.dialog import DEFAULT_FORMAT, REJECT, encode_action  # noqa: E402
from pilotage_core.events import (  # noqa: E402
    Author,
    Closing,
    Event,
    Happening,
    MessagePosted,
    Outcome,
    OutcomeReported,
    ScreenShown,
    SessionClosed,
    SessionOpened,
)
from pilotage_core.screen import ControlKind, ControlRule, FactRule, ScreenSchema  # noqa: E402
from pilotage_core.stage import Stage  # noqa: E402
from pilotage_core.wire import PostEvents, Turn  # noqa: E402

Counter = Any
"""A number that two processes share (multiprocessing.Value of kind "q")."""
MODELS_PORT, GATEWAY_PORT = 19411, 19412
DECISIONS_A_SESSION = 10
SCHEMA = ScreenSchema(
    name="form",
    applies="form",
    controls=(
        ControlRule("button", ControlKind.BUTTON),
        ControlRule("input", ControlKind.INPUT),
        ControlRule("select", ControlKind.SELECT),
    ),
    facts=(FactRule("[data-fact]"),),
)
REPLY = json.dumps(
    {
        "choices": [
            {
                "message": {"content": encode_action(SUBMIT, DEFAULT_FORMAT)},
                "logprobs": {"content": [{"logprob": -0.2}]},
            }
        ]
    }
).encode()
TOKENS = [b'{"count":1,"max_model_len":1,"tokens":[%d],"token_strs":null}' % token for token in (1, 0)]
SCORE = b'{"data":[{"index":0,"object":"score","score":0.95}]}'


def build_html(number: int) -> str:
    """A form of about 4 KB that differs from one number to the next."""
    fields = "".join(
        f'<label>Field {i}<input data-control-id="field-{i}" name="f{i}" value="{number * i % 97}"></label>'
        for i in range(25)
    )
    facts = "".join(f'<li data-fact="fact-{i}">{(number + i) % 89}</li>' for i in range(15))
    buttons = '<button data-control-id="submit-booking">Book</button><button data-control-id="back">Back</button>'
    return f"<form><h1>Booking {number}</h1>{fields}<ul>{facts}</ul>{buttons}</form>"


HTML = [build_html(number) for number in range(2)]


class ModelServer(asyncio.Protocol):
    """Just enough HTTP to answer both models' calls at once: what is measured is the gateway. Scores are counted."""

    def __init__(self, scored: Counter) -> None:
        self.scored = scored
        self.buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (head := self.buffer.find(b"\r\n\r\n")) >= 0:
            length = int(self.buffer[:head].lower().split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
            if len(self.buffer) < head + 4 + length:
                return
            if self.buffer.startswith(b"POST /v1/chat"):
                answer = REPLY
            elif self.buffer.startswith(b"POST /tokenize"):  # once for each verdict
                answer = TOKENS[REJECT.encode() in self.buffer]
            else:
                answer = SCORE
                self.scored.value += 1
            self.buffer = self.buffer[head + 4 + length :]
            header = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(answer)
            self.transport.write(header + answer)  # type: ignore[attr-defined]


def serve_models(core: int, scored: Counter) -> None:
    os.sched_setaffinity(0, {core})

    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(lambda: ModelServer(scored), "127.0.0.1", MODELS_PORT)
        await server.serve_forever()

    asyncio.run(main())


@dataclass
class Session:
    """One session that always has something to post."""

    session_id: str = field(default_factory=lambda: f"bench-{uuid7()}")
    sequence: int = 0
    decisions: int = 0
    last: Turn | None = None

    def next_post(self) -> bytes:
        happenings: list[Happening] = []
        if self.last is None:
            happenings += [
                SessionOpened({"domain": "hotel"}),
                MessagePosted(Author.CUSTOMER, "A room for two, please."),
            ]
        elif self.last.order is not None:
            order = self.last.order
            happenings.append(OutcomeReported(order.proposal_id, order.idempotency_key, Outcome.DONE))
        happenings.append(ScreenShown(html=HTML[self.decisions % 2]))
        return self.encode(happenings)

    def encode(self, happenings: list[Happening]) -> bytes:
        at = "2026-01-01T00:00:00+00:00"
        events = tuple(Event(str(uuid7()), self.sequence + i, at, h) for i, h in enumerate(happenings))
        self.sequence += len(events)
        return msgspec.json.encode(PostEvents(events, nonce=str(self.sequence)))


@dataclass
class Load:
    """Posts and their latencies in milliseconds. `orders` counts decisions that ran unattended."""

    client: aiohttp.ClientSession
    decoder: msgspec.json.Decoder[Turn] = field(default_factory=lambda: msgspec.json.Decoder(Turn))
    latencies: list[float] = field(default_factory=list)
    orders: int = 0

    async def step(self, session: Session, due: float) -> Session:
        """One decision of one session; gives the session to go on with."""
        await self.send(session, session.next_post())
        self.latencies.append((time.perf_counter() - due) * 1000)
        session.decisions += 1
        self.orders += session.last is not None and session.last.order is not None
        if session.decisions < DECISIONS_A_SESSION:
            return session
        done = session.last.order if session.last else None
        report = [OutcomeReported(done.proposal_id, done.idempotency_key, Outcome.DONE)] if done else []
        await self.send(session, session.encode([*report, SessionClosed(Closing.CLOSED)]))
        return Session()

    async def send(self, session: Session, body: bytes) -> None:
        url = f"http://127.0.0.1:{GATEWAY_PORT}/v1/sessions/{session.session_id}/events"
        async with self.client.post(url, data=body, headers={"content-type": "application/json"}) as response:
            answer = await response.read()
            if response.status != 200:
                raise RuntimeError(answer.decode())
        session.last = self.decoder.decode(answer)


async def run_open(load: Load, rate: float, seconds: float, sessions: int = 200) -> dict[str, float]:
    """Posts at their time, whether or not the ones before are answered; sessions take turns."""
    idle = [Session() for _ in range(sessions)]
    running: set[asyncio.Task[None]] = set()
    missed = 0

    async def one(session: Session, due: float) -> None:
        idle.append(await load.step(session, due))

    started = time.perf_counter()
    for number in range(int(rate * seconds)):
        due = started + number / rate
        if (wait := due - time.perf_counter()) > 0:
            await asyncio.sleep(wait)
        if not idle:
            missed += 1
            continue
        task = asyncio.create_task(one(idle.pop(0), due))
        running.add(task)
        task.add_done_callback(running.discard)
    await asyncio.gather(*running)
    return {"rate": rate, "missed": missed, **summarise(load, time.perf_counter() - started)}


async def run_closed(load: Load, seconds: float, sessions: int = 48) -> dict[str, float]:
    """As many as come: each session posts as soon as it is answered."""
    until = time.perf_counter() + seconds

    async def one() -> None:
        session = Session()
        while (now := time.perf_counter()) < until:
            session = await load.step(session, now)

    started = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(sessions)))
    return {"sessions_at_once": sessions, **summarise(load, time.perf_counter() - started)}


def summarise(load: Load, seconds: float) -> dict[str, float]:
    ordered = sorted(load.latencies)
    return {
        "decisions": len(ordered),
        "orders": load.orders,
        "seconds": round(seconds, 2),
        "decisions_per_second": round(len(ordered) / seconds, 1),
        "p50_ms": round(ordered[len(ordered) // 2], 2),
        "p99_ms": round(ordered[int(len(ordered) * 0.99)], 2),
        "max_ms": round(ordered[-1], 2),
    }


@contextlib.asynccontextmanager
async def run_gateway(folder: Path, core: int) -> AsyncIterator[int]:
    models = f"http://127.0.0.1:{MODELS_PORT}"
    controller = StubController(
        build_snapshot(build_leave(Stage.CALIBRATION, models, screens=(SCHEMA,)), LONG_TAIL), ttl_ms=30_000
    )
    controller.write_key(folder / "keys")
    async with run_controller(controller) as url:
        command = [
            *(sys.executable, "-m", "pilotage_gateway.main", "--listen", f"127.0.0.1:{GATEWAY_PORT}"),
            *("--database", f"sqlite:///{folder}/gateway.db", "--controller", url, "--keys", str(folder / "keys")),
            *("--log-level", "warning"),
        ]
        process = await asyncio.create_subprocess_exec(*command)
        os.sched_setaffinity(process.pid, {core})
        try:
            yield process.pid
        finally:
            process.terminate()
            await process.wait()


async def wait_for_permit(client: aiohttp.ClientSession) -> None:
    async with asyncio.timeout(20):
        while True:
            with contextlib.suppress(aiohttp.ClientError):
                async with client.get(f"http://127.0.0.1:{GATEWAY_PORT}/v1/status") as response:
                    if (await response.json())["permit_remaining_ms"] > 0:
                        return
            await asyncio.sleep(0.05)


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def wait_seconds(pid: int) -> float:
    """How long the gateway's threads were ready to run and had no core: what other programs on the machine cost it."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[1]) for task in tasks) / 1e9


def measure_fsync(folder: Path, times: int = 200) -> float:
    """Median milliseconds of one small synced append on the database's disk."""
    spent = []
    with (folder / "fsync").open("wb") as file:
        for _ in range(times):
            started = time.perf_counter()
            file.write(b"x" * 4096)
            file.flush()
            os.fsync(file.fileno())
            spent.append((time.perf_counter() - started) * 1000)
    return sorted(spent)[times // 2]


def require_done(run: dict[str, float], scores: int) -> None:
    """Every decision was scored and ordered: SUBMIT is critical, so nothing but its score lets it run."""
    if not run["decisions"] == run["orders"] <= scores:
        raise RuntimeError(f"{run['decisions']} decisions, {run['orders']} orders, {scores} scores: not what is timed")


async def measure(rate: float, seconds: float, folder: Path, gateway_core: int, scored: Counter) -> dict[str, object]:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as client, run_gateway(folder, gateway_core) as pid:
        await wait_for_permit(client)
        await run_open(Load(client), 50, 2)  # connections, caches
        before, scores = (cpu_seconds(pid), wait_seconds(pid)), [scored.value]
        at_rate = await run_open(Load(client), rate, seconds)
        between, scores = (cpu_seconds(pid), wait_seconds(pid)), [*scores, scored.value]
        most = await run_closed(Load(client), seconds)
        after, scores = (cpu_seconds(pid), wait_seconds(pid)), [*scores, scored.value]
        require_done(at_rate, scores[1] - scores[0])
        require_done(most, scores[2] - scores[1])
        for run, start, end in ((at_rate, before, between), (most, between, after)):
            run["cpu_ms_per_decision"] = round((end[0] - start[0]) * 1000 / run["decisions"], 2)
            run["waited_for_a_core_ms_per_decision"] = round((end[1] - start[1]) * 1000 / run["decisions"], 2)
        return {"open_loop": at_rate, "most_load": most, "fsync_ms": round(measure_fsync(folder), 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=300.0)
    parser.add_argument("--seconds", type=float, default=12.0)
    parser.add_argument(
        "--folder", type=Path, default=None, help="where the database goes (default: a temporary folder)"
    )
    parser.add_argument("--output", type=Path, default=ROOT / "bench/results/gateway.json")
    options = parser.parse_args()
    packages = ("uvicorn", "starlette", "aiohttp", "msgspec", "SQLAlchemy", "uvloop", "httptools")
    result = describe_run(*packages)
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[-1]})
    scored: Counter = multiprocessing.Value("q", 0, lock=False)
    models = multiprocessing.Process(target=serve_models, args=(cores[-1], scored), daemon=True)
    models.start()
    try:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            result |= asyncio.run(measure(options.rate, options.seconds, Path(folder), cores[0], scored))
    finally:
        models.terminate()
    options.output.parent.mkdir(exist_ok=True)
    options.output.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
