"""Many sessions: which dialogue goes where, how many at a time, and what the run is at.

A run can be stopped between sessions and begun again: a dialogue that the ledger names is not played a second time.
"""

import asyncio
import sys
from collections import Counter, deque
from collections.abc import Coroutine, Iterable, Mapping

from pilotage_core.errors import InvalidEventError, UnavailableError
from pilotage_core.events import Closing
from pilotage_core.wire import Turn
from pilotage_simulator.adapter import Bpm
from pilotage_simulator.ledger import Entry, OrderReceived, SessionBegun, SessionEnded
from pilotage_simulator.outbox import abandon_session
from pilotage_simulator.pacer import Pacer
from pilotage_simulator.plan import Lane, Plan
from pilotage_simulator.worlds import Case, World

PROGRESS_SECONDS = 1.0
PROGRESS_SECONDS_LOGGED = 10.0
STOP_SECONDS = 15.0
"""How long a stopped run waits for the sessions that have begun."""


class Played:
    """What an earlier run left in the ledger."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self.dialogues: set[str] = set()
        self.by_process_cluster: Counter[str] = Counter()
        self.used_keys: set[str] = set()
        self.highest_epoch = 0
        self.changed: set[str] = set()
        self.left_open: dict[str, SessionBegun] = {}
        for entry in entries:
            if isinstance(entry, SessionBegun):
                self.dialogues.add(entry.dialogue_id)
                self.by_process_cluster[entry.process_cluster] += 1
                self.left_open[entry.session_id] = entry
                if entry.changed:
                    self.changed.add(entry.process_cluster)
            elif isinstance(entry, OrderReceived):
                self.highest_epoch = max(self.highest_epoch, entry.epoch)
                if entry.executed:
                    self.used_keys.add(entry.idempotency_key)
            else:
                self.left_open.pop(entry.session_id, None)


def deal_cases(
    world: World, plan: Plan, played: Played, limit: int | None = None
) -> tuple[dict[str, deque[Case]], int]:
    """Cases by process cluster, in the data's order, without those played; and how many dialogues had too little."""
    dealt: dict[str, deque[Case]] = {lane.process_cluster: deque() for lane in plan.lanes}
    room = {lane.process_cluster: _find_room(lane, played) for lane in plan.lanes}
    skipped = 0
    for offered in world.list_cases(plan):
        if not any(room.values()) or (limit is not None and sum(map(len, dealt.values())) >= limit):
            break
        lane = next((lane for lane in plan.lanes if lane.takes(offered.domains)), None)
        if lane is None or not room[lane.process_cluster] or offered.dialogue_id in played.dialogues:
            continue
        case = offered.build()
        if case is None:
            skipped += 1
            continue
        dealt[lane.process_cluster].append(case)
        room[lane.process_cluster] -= 1
    return dealt, skipped


def _find_room(lane: Lane, played: Played) -> int:
    """How many sessions of `lane` may still be played."""
    return sys.maxsize if lane.limit is None else max(0, lane.limit - played.by_process_cluster[lane.process_cluster])


class Run:
    """A run of a plan: `stop()` lets sessions that have begun end, and begins no more."""

    def __init__(self, bpm: Bpm, plan: Plan, pacer: Pacer, cases: dict[str, deque[Case]], played: Played) -> None:
        self._bpm = bpm
        self._plan = plan
        self._pacer = pacer
        self._cases = cases
        self._begun = Counter(played.by_process_cluster)
        self._changed = set(played.changed)
        self._slots = asyncio.Semaphore(plan.concurrency)
        self._stopping = asyncio.Event()
        self._sessions: set[asyncio.Task[None]] = set()
        self._stages: dict[str, str] = {}
        self.ended: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.posts = 0
        self.unassisted = 0
        bpm.on_stage = self._note_stage

    def stop(self) -> None:
        """Begin no more sessions."""
        self._stopping.set()

    async def play(self) -> None:
        """Play everything there is, or until stopped."""
        background = [asyncio.create_task(self._pacer.watch()), asyncio.create_task(self._show_progress())]
        try:
            async with asyncio.TaskGroup() as lanes:
                for lane in self._plan.lanes:
                    lanes.create_task(self._play_lane(lane))
            await self._await_sessions()
        finally:
            for task in background:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)
            self._bpm.ledger.sync()

    async def close_abandoned(self, left_open: Mapping[str, SessionBegun]) -> None:
        """End the sessions that a killed run left open: nobody works on them any more."""
        for session_id, begun in left_open.items():
            try:
                await abandon_session(self._bpm.gateway, session_id, self._bpm.now)
            except UnavailableError as error:
                print(f"session {session_id} stays open: {error}", file=sys.stderr, flush=True)
                continue
            ended = SessionEnded(self._bpm.now(), session_id, begun.process_cluster, Closing.ABANDONED, 0.0, 0.0)
            self._bpm.ledger.write(ended)

    async def _await_sessions(self) -> None:
        """Let sessions end. Once stopped, those that cannot (no gateway takes their events) stay open in the ledger."""
        while self._sessions and not self._stopping.is_set():
            stopping = asyncio.create_task(self._stopping.wait())
            await asyncio.wait({stopping, *self._sessions}, return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
        if self._sessions:
            await asyncio.wait(set(self._sessions), timeout=STOP_SECONDS)
        for task in self._sessions:
            task.cancel()

    async def _play_lane(self, lane: Lane) -> None:
        cases = self._cases[lane.process_cluster]
        while cases and not self._stopping.is_set():
            if not await self._comes_before_stop(self._pacer.turn(lane)):
                return
            if not await self._comes_before_stop(self._slots.acquire()):
                return
            task = asyncio.create_task(self._play_session(lane, cases.popleft()))
            self._sessions.add(task)
            task.add_done_callback(self._sessions.discard)

    async def _comes_before_stop(self, awaited: Coroutine[object, object, object]) -> bool:
        """Whether `awaited` came to pass before the run was stopped."""
        coming = asyncio.create_task(awaited)
        stopping = asyncio.create_task(self._stopping.wait())
        await asyncio.wait((coming, stopping), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if coming.done():
            return True
        coming.cancel()
        return False

    async def _play_session(self, lane: Lane, case: Case) -> None:
        key = lane.process_cluster
        try:
            self._begun[key] += 1
            changed = key in self._changed or self._pacer.is_changed(lane, self._begun[key])
            if changed:
                self._changed.add(key)
            self._count(key, await case.build_session(self._bpm, key, changed=changed).play())
        except InvalidEventError as error:
            self.refused[key] += 1
            print(f"\nsession {case.session_id} was refused: {error}", file=sys.stderr, flush=True)
        finally:
            self._slots.release()

    def _count(self, key: str, ended: SessionEnded) -> None:
        self.ended[key] += 1
        self.posts += ended.posts
        self.unassisted += ended.unassisted

    def _note_stage(self, turn: Turn) -> None:
        self._stages[turn.process_cluster] = turn.stage

    async def _show_progress(self) -> None:
        live = sys.stdout.isatty()
        while True:
            await asyncio.sleep(PROGRESS_SECONDS if live else PROGRESS_SECONDS_LOGGED)
            print(f"\r\x1b[K{self.describe()}" if live else self.describe(), end="" if live else "\n", flush=True)

    def describe(self) -> str:
        """One line: sessions by process cluster, stages, and what went wrong."""
        parts = []
        for lane in self._plan.lanes:
            key = lane.process_cluster
            stage = self._stages.get(key, "-")
            mark = " changed" if key in self._changed else ""
            pace = "" if self._pacer.is_wanted(key) else " trickling"
            parts.append(f"{key} {self.ended[key]}/{self.ended[key] + len(self._cases[key])} {stage}{mark}{pace}")
        line = " · ".join(parts)
        line += f" · {self.posts} posts"
        if self._pacer.fault:
            line += f" · {self._pacer.fault}"
        if self.unassisted:
            line += f" · {self.unassisted} unanswered"
        if self.refused:
            line += f" · {sum(self.refused.values())} refused"
        return line


def describe_assumptions(plan: Plan) -> str:
    """The numbers that are nobody's measurement, in words."""
    return (
        f"assumptions: a look costs an operator {plan.look_seconds:g} s, an accept {plan.accept_seconds:g} s more; one"
        f" accepts what the wizard did later before the next submit with probability {plan.accept_later_probability:g};"
        f" {plan.transfer_share:.0%} of the chats are transferred"
    )
