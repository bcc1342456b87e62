"""Scripts played without a gateway: STAR as session records of stage Logging, for the trainer and for forecasts.

The same session code as against a gateway (bpm.py), in front of one that only takes down what it is told.
"""

import asyncio
import tempfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from pilotage_core.events import Event, ScreenShown
from pilotage_core.gate import Decision, Reason
from pilotage_core.reading import read_screen
from pilotage_core.record import SessionRecord
from pilotage_core.stage import Stage
from pilotage_core.wire import PostEvents, Turn
from pilotage_simulator.adapter import Bpm
from pilotage_simulator.bpm import Session
from pilotage_simulator.change import change_script
from pilotage_simulator.dialogue import build_script
from pilotage_simulator.ledger import Ledger
from pilotage_simulator.screens import SCHEMAS, Renderer
from pilotage_simulator.star import find_star, load_star, read_dialogues

FIRST_SESSION = datetime(2026, 1, 1, tzinfo=UTC)
BETWEEN_SESSIONS = timedelta(minutes=5)
BETWEEN_EVENTS = timedelta(seconds=1)


class _Recorder:
    """Stands where a gateway stands, observes and keeps every event, with its screen read."""

    def __init__(self, process_cluster: str) -> None:
        self.process_cluster = process_cluster
        self.events: list[Event] = []

    async def post(self, session_id: str, post: PostEvents) -> Turn:
        self.events.extend(_with_screen(event) for event in post.events)
        return Turn(
            session_id,
            self.process_cluster,
            len(self.events),
            Stage.LOGGING,
            Decision.OBSERVE,
            Reason.STAGE_LOGGING,
        )


class _Clock:
    """Times of a recorded past: one second an event, in a session of its own."""

    def __init__(self) -> None:
        self.moment = FIRST_SESSION

    def now(self) -> str:
        self.moment += BETWEEN_EVENTS
        return self.moment.isoformat()


def records_from_star(
    path: str | Path | None = None,
    domains: Sequence[str] = (),
    limit: int | None = None,
    process_cluster: str = "star/information",
    changed_from: int | None = None,
) -> Iterator[SessionRecord]:
    """Session records of the dialogues whose every domain is among `domains` (none given: of all), in STAR's order.

    `path` as in `find_star`. From the `changed_from`-th session on the process is the changed one (change.py).
    """
    star = load_star(find_star(str(path) if path else None))
    wanted, clock, number = set(domains), _Clock(), 0
    with tempfile.TemporaryDirectory() as folder, asyncio.Runner() as runner:
        bpm = Bpm(_Recorder(process_cluster), Ledger(Path(folder) / "ledger.jsonl"), now=clock.now)
        renderer = Renderer(star.procedures)
        for dialogue in read_dialogues(star.dialogues):
            if limit is not None and number >= limit:
                return
            if wanted and not (dialogue.domains and wanted.issuperset(dialogue.domains)):
                continue
            script = build_script(dialogue, star.procedures)
            if script is None:
                continue
            number += 1
            if changed_from is not None and number > changed_from:
                script = change_script(script, star.procedures)
            clock.moment = FIRST_SESSION + number * BETWEEN_SESSIONS
            recorder = bpm.gateway = _Recorder(process_cluster)
            runner.run(Session(bpm, f"star-{script.dialogue_id}", process_cluster, script, renderer).play())
            events = tuple(recorder.events)
            yield SessionRecord(
                f"star-{script.dialogue_id}", process_cluster, events[0].at, events, closed_at=events[-1].at
            )


def _with_screen(event: Event) -> Event:
    if not isinstance(event.data, ScreenShown):
        return event
    return msgspec.structs.replace(event, data=ScreenShown(screen=read_screen(event.data.html, SCHEMAS)))
