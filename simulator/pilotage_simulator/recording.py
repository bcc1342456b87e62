"""A dialogue as the session record it would have left, without a gateway: logs of operators who worked unassisted.

Two views. `record_work`: as this BPM plays it (bpm.py), screens read from their HTML, typing before each submit.
`record_choices`: as STAR's authors score it, each `query` and each message one choice made from what was said and found
so far; what a query filled in shows afterwards. `read_star_records` is a whole file in either view, and what the entry
points of group `pilotage.records` lead to. Not here: HTTP, assisted sessions, the played BPM itself (records.py).
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from pathlib import Path

from pilotage_core.actions import Action, Tool
from pilotage_core.events import (
    ActionTaken,
    Author,
    Closing,
    Happening,
    MessagePosted,
    ScreenShown,
    SessionClosed,
    SessionOpened,
)
from pilotage_core.reading import read_screen
from pilotage_core.record import SessionRecord
from pilotage_core.screen import Control, ControlKind, Screen
from pilotage_simulator.case import Case
from pilotage_simulator.dialogue import CLICK_SECONDS, ROWS_SHOWN, Script, StepKind, build_script
from pilotage_simulator.forms import build_result, read_constraints
from pilotage_simulator.screens import SCHEMAS, Renderer
from pilotage_simulator.session_log import SessionLog, may_close_within
from pilotage_simulator.star import (
    COMMON_REPLIES,
    Dialogue,
    Procedure,
    StarEvent,
    find_reply,
    find_star,
    load_star,
    read_dialogues,
)

EPOCH = datetime(2020, 1, 1, tzinfo=UTC)
"""When a dialogue without times begins, and the first one of a file that is read as a whole."""
BETWEEN_SESSIONS = timedelta(hours=1)
"""From the beginning of one session of a file to the next; each ends before the next begins."""
ALL_DOMAINS = "star/all"
LANES: Mapping[str, tuple[str, ...]] = {
    "star/information": ("weather", "trivia", "spaceship", "bank"),
    "star/bookings": ("hotel", "plane", "ride", "trip", "restaurant", "doctor", "apartment"),
}
"""Process clusters that take the dialogues of some domains only, as in the demo's plans."""
LONG_TAIL = "star/long-tail"
"""What no lane takes."""


class View(StrEnum):
    """What of a dialogue becomes a session."""

    CHOICES = "choices"  # as STAR's authors score it
    WORK = "work"  # as this BPM plays it


def read_star_records(
    path: str | Path,
    view: str = View.CHOICES,
    process_cluster: str = ALL_DOMAINS,
    part: tuple[int, int] = (0, 1),
    since: str = "",
    until: str = "",
) -> Iterator[SessionRecord]:
    """The dialogues of `path` (a file, a folder, or empty: see `find_star`) as closed sessions, in the file's order.

    Sessions begin an hour apart in that order (STAR's own times part the domains); within one the gaps are the recorded
    ones. `star/bookings`, `star/information` and `star/long-tail` take their domains, any other name takes all. `part`
    (i, n) gives every n-th dialogue from the i-th on. Those that cannot close in [since, until) are left out. Raises
    InvalidInputError naming file and line.
    """
    star, wanted = load_star(find_star(str(path))), View(view)
    renderer = Renderer(star.procedures)
    for number, dialogue in enumerate(read_dialogues(star.dialogues)):
        if number % part[1] != part[0] or not _takes(process_cluster, dialogue):
            continue
        begins = EPOCH + number * BETWEEN_SESSIONS
        if not may_close_within(begins, begins + BETWEEN_SESSIONS, since, until):
            continue
        if wanted is View.WORK:
            record = record_work(dialogue, star.procedures, renderer, process_cluster, begins)
        else:
            record = record_choices(dialogue, star.procedures, process_cluster, begins)
        if record is not None:
            yield record


def read_star_work(
    path: str | Path,
    process_cluster: str = ALL_DOMAINS,
    part: tuple[int, int] = (0, 1),
    since: str = "",
    until: str = "",
) -> Iterator[SessionRecord]:
    """`read_star_records` in the view of the work, screen by screen."""
    return read_star_records(path, View.WORK, process_cluster, part, since, until)


def _takes(process_cluster: str, dialogue: Dialogue) -> bool:
    domains = set(dialogue.domains)
    lane = next((name for name, own in LANES.items() if domains and domains <= set(own)), LONG_TAIL)
    return process_cluster == lane or process_cluster not in (*LANES, LONG_TAIL)


class _Log(SessionLog):
    """The log of a dialogue, by its own times; `begins` moves all of it there."""

    def __init__(self, dialogue: Dialogue, begins: datetime | None) -> None:
        times = [e.unix_time for e in dialogue.events if e.unix_time is not None]
        first = datetime.fromtimestamp(times[0], UTC) if times else EPOCH
        self._moved = (begins or first) - first
        latest = begins + BETWEEN_SESSIONS - timedelta(seconds=1) if begins else None
        super().__init__(f"star-{dialogue.dialogue_id}", begins or first, latest)

    def move_to(self, unix_time: float | None) -> None:
        if unix_time is not None:
            self.reach(datetime.fromtimestamp(unix_time, UTC) + self._moved)


# --- as this BPM plays it ---------------------------------------------------------------------------------------------
def record_work(
    dialogue: Dialogue,
    procedures: Mapping[str, Procedure],
    renderer: Renderer,
    process_cluster: str,
    begins: datetime | None = None,
) -> SessionRecord | None:
    """The session that an unassisted operator's work on `dialogue` leaves; None where too little happens in it.

    It begins when the dialogue did, or at `begins`.
    """
    script = build_script(dialogue, procedures)
    if script is None:
        return None
    log, case, shown = _Log(dialogue, begins), Case(script, renderer), ""
    log.add(_open(script.domains, script.dialogue_id, script.segment))

    def show(messages: tuple[str, ...]) -> None:
        nonlocal shown
        html = case.html()
        if html != shown:
            shown = html
            log.add(ScreenShown(screen=_read(html)))
        for text in messages:
            log.add(MessagePosted(Author.CUSTOMER, text))

    show(script.opening)
    while not case.closed:
        index, step = case.next_step()
        if step.procedure != case.procedure and step.procedure in procedures and step.kind is not StepKind.OPEN:
            _take(log, (Action(Tool.OPEN_PROCEDURE, f"procedure:{step.procedure}"),), script, CLICK_SECONDS)
            case.procedure, case.error = step.procedure, ""
            show(())
        _take(log, step.actions, script, step.active_seconds)
        case.tick(index)
        for action in step.actions:
            case.apply(action, step)
        if not case.closed:
            show(step.replies)
    transferred = script.steps[-1].actions[0].tool is Tool.TRANSFER_CHAT
    log.add(SessionClosed(Closing.TRANSFERRED if transferred else Closing.CLOSED))
    return log.record(process_cluster)


def _take(log: _Log, actions: tuple[Action, ...], script: Script, seconds: float) -> None:
    log.wait(seconds)
    log.add(ActionTaken(actions, script.operator, seconds))


@lru_cache(maxsize=4096)
def _read(html: str) -> Screen:
    return read_screen(html, SCHEMAS)


def _open(domains: tuple[str, ...], dialogue_id: str, segment: str = "") -> SessionOpened:
    metadata = {"domains": ",".join(domains), "line_of_business": "support", "dialogue_id": dialogue_id}
    profile = {"segment": segment, "customer_id": f"customer-{dialogue_id}"} if segment else {}
    return SessionOpened(metadata, profile)


# --- as STAR's authors score it ---------------------------------------------------------------------------------------
def record_choices(
    dialogue: Dialogue, procedures: Mapping[str, Procedure], process_cluster: str, begins: datetime | None = None
) -> SessionRecord | None:
    """The wizard's choices in `dialogue`; None where there are none. A single-task wizard has its procedure open."""
    tasks = [c.task for c in dialogue.scenario.capabilities if c.task in procedures]
    log = _Log(dialogue, begins)
    desk = _Desk(procedures, tuple(dict.fromkeys(tasks)))
    if tasks and not dialogue.scenario.multi_task:
        desk.procedure = tasks[0]
    log.add(_open(dialogue.domains, str(dialogue.dialogue_id)))
    log.add(ScreenShown(screen=desk.screen()))
    chosen = 0
    for event in dialogue.events:
        log.move_to(event.unix_time)
        for happening in desk.follow(event, dialogue.wizard):
            chosen += isinstance(happening, ActionTaken)
            log.add(happening)
    log.add(SessionClosed(Closing.CLOSED))
    return log.record(process_cluster) if chosen else None


class _Desk:
    """What the wizard has in front of them: the procedure open, what the last query filled in and found."""

    def __init__(self, procedures: Mapping[str, Procedure], tasks: tuple[str, ...]) -> None:
        self._procedures = procedures
        self._tasks = tasks
        self.procedure = ""
        self._facts: tuple[tuple[str, str], ...] = ()
        self._filled: tuple[tuple[str, str], ...] = ()

    def follow(self, event: StarEvent, wizard: str) -> Iterator[Happening]:
        """What `event` is in a session."""
        text = (event.text or "").strip()
        match event.agent, event.action:
            case "User", "utter" if text:
                yield MessagePosted(Author.CUSTOMER, text)
            case "Wizard", "pick_suggestion" | "utter" if text:
                control = f"reply:{event.label}" if event.action == "pick_suggestion" and event.label else ""
                shown = find_reply(event.label, self._procedures.get(self.procedure)) if control else ""
                yield ActionTaken((Action(Tool.SEND_TEXT_TO_CHAT, control, text=shown or text),), wizard)
            case "Wizard", "select_task" if event.task in self._procedures and event.task != self.procedure:
                yield ActionTaken((Action(Tool.OPEN_PROCEDURE, f"procedure:{event.task}"),), wizard)
                self.procedure, self._facts, self._filled = event.task, (), ()
                yield ScreenShown(screen=self.screen())
            case "Wizard", "query":
                values, button = read_constraints(event.constraints)
                self._filled = tuple(sorted(values.items()))
                yield ActionTaken((Action(Tool.CLICK_CONTROL, button),), wizard)
            case "KnowledgeBase", _:
                self._facts = build_result(event).facts
                yield ScreenShown(screen=self.screen())

    def screen(self) -> Screen:
        """The screen as it is now."""
        facts = (("procedure", self.procedure), *self._facts, *((f"form {k}", v) for k, v in self._filled))
        opened = self._procedures.get(self.procedure)
        controls = _desk_controls(
            self._tasks, opened.submits if opened else (), tuple(opened.replies.items()) if opened else ()
        )
        shown = tuple(f for f in facts if f[1])
        return Screen("case" if opened else "search", controls=controls, facts=shown, recognised=True)


@lru_cache(maxsize=1024)
def _desk_controls(
    tasks: tuple[str, ...], submits: tuple[str, ...], replies: tuple[tuple[str, str], ...]
) -> tuple[Control, ...]:
    rows = range(1, ROWS_SHOWN + 1) if submits else ()
    return (
        *(Control(f"procedure:{task}", ControlKind.PROCEDURE, label=task) for task in tasks),
        *(Control(button, ControlKind.BUTTON, label=button) for button in submits),
        *(Control(f"row:{number}", ControlKind.ROW, label=str(number)) for number in rows),
        *(
            Control(f"reply:{k}", ControlKind.REPLY, label=" ".join(text.split()))
            for k, text in {**COMMON_REPLIES, **dict(replies)}.items()
        ),
    )
