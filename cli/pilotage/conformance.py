"""`pilotage conformance --serve`: plays the gateway to an adapter, and says where it breaks the contract.

An adapter is told to fill in one input, each time with another value, by orders of which most must not run. What it
reports is held against the screens that it sends: a value that a refused order carried, and a screen shows, did run.
Pure: `Conductor` takes what an adapter sends and gives what it is answered. Not here: HTTP (conformance_server.py).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from pilotage_core.actions import Action, Tool
from pilotage_core.events import Event, Outcome, OutcomeReported, ScreenShown, SessionOpened
from pilotage_core.reading import read_screen
from pilotage_core.screen import ControlKind, Screen
from pilotage_core.wire import BY_PERMIT, Order, PostEvents

EPOCH = 5
RUNS_MS, LATE_MS = 10_000, 0
MOST_POSTS = 200
VALUE = "conformance {}"


class Finding(NamedTuple):
    """What is broken, and how to see it."""

    check: str
    says: str
    see: str


class Probe(NamedTuple):
    """One order: how it differs from a right one, and what an adapter may report of it."""

    name: str
    bend: Callable[[Order], Order]
    allowed: frozenset[Outcome]
    broken: str


def _change(**changes: Any) -> Callable[[Order], Order]:
    return lambda order: msgspec.structs.replace(order, **changes)


DONE, REFUSED = frozenset({Outcome.DONE}), frozenset({Outcome.REFUSED})
NOT_DONE = frozenset({Outcome.FAILED, Outcome.REFUSED})
PROBES = (
    Probe("an order runs", lambda order: order, DONE, "does not do what it is rightly told to"),
    Probe("a key is used once", _change(idempotency_key="execute-p-0"), REFUSED, "does one order twice"),
    Probe("an order answers its nonce", _change(nonce="of-another-post"), REFUSED, "obeys an answer to another post"),
    Probe("a stale state is refused", lambda o: msgspec.structs.replace(o, state_version=o.state_version - 1), REFUSED,
          "acts on a state that has moved on"),
    Probe("leave that is over is refused", _change(remaining_ms=LATE_MS), REFUSED, "acts after its leave is over"),
    Probe("an older controller is refused", _change(epoch=EPOCH - 1), REFUSED, "obeys an older controller's leave"),
    Probe("other bytes are refused", _change(digest="0" * 16), REFUSED, "does another action than was decided on"),
    Probe("what is not there is not done", lambda o: _aim(o, "no-such-control"), NOT_DONE,
          "says that it did what cannot be done"),
    Probe("an operator's word needs no epoch", _change(epoch=0, authorised_by="ann"), DONE,
          "does not do what an operator let go on"),
)  # fmt: skip


def _aim(order: Order, control_id: str) -> Order:
    action = msgspec.structs.replace(order.action, control_id=control_id)
    return msgspec.structs.replace(order, action=action, digest=action.digest)


@dataclass
class Reply:
    """What an adapter is answered; None: the connection is dropped after its request was read."""

    status: int
    body: dict[str, Any]


@dataclass
class Conductor:
    """One adapter's session, from its first post on. `passed` and `findings` are what came of it."""

    control_id: str = ""
    findings: list[Finding] = field(default_factory=list)
    passed: list[str] = field(default_factory=list)
    _events: list[Event] = field(default_factory=list)
    _nonces: set[str] = field(default_factory=set)
    _lost: tuple[Event, ...] = ()
    _troubles: list[str] = field(default_factory=lambda: ["unavailable", "lost", "conflict"])
    _screen: Screen | None = None
    _probe: int = -1
    _order: Order | None = None
    _posts: int = 0
    _waits_to_see: str = ""

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to try."""
        return self._probe >= len(PROBES) or self._posts > MOST_POSTS

    # --- one post ---
    def answer(self, session_id: str, body: bytes) -> Reply | None:
        """Take a post, and say what to answer it."""
        self._posts += 1
        try:
            post = msgspec.json.decode(body, type=PostEvents)
        except msgspec.MsgspecError as error:
            self._find("a post can be read", f"sends what is no post: {error}", "look at /v1/openapi.json, PostEvents")
            return _problem(422, str(error), "body")
        self._check_form(post)
        if (trouble := self._make_trouble(post)) is not None:
            return trouble[0]
        if (gap := self._check_order(post)) is not None:
            return gap
        self._take(post)
        return Reply(200, self._turn(session_id, post))

    def _check_form(self, post: PostEvents) -> None:
        if not post.nonce:
            self._find("a post has a nonce", "posts without a nonce: nothing could be ordered", "nonce is empty")
        elif post.nonce in self._nonces:
            self._find("a nonce is fresh", "uses a nonce twice: what is late could not be told", f"nonce {post.nonce}")
        self._nonces.add(post.nonce)
        for event in post.events:
            try:
                has_offset = datetime.fromisoformat(event.at).tzinfo is not None
            except ValueError:
                has_offset = False
            if not has_offset:
                self._find("times have an offset", f"event {event.sequence} is at {event.at!r}", "send RFC 3339")
        if not self._events and post.events and not isinstance(post.events[0].data, SessionOpened):
            self._find("a session is opened first", "begins with something else", "the first event of a session")

    def _make_trouble(self, post: PostEvents) -> tuple[Reply | None] | None:
        """The first posts go wrong as posts do: nobody answers, an answer is lost, it was stored already."""
        self._check_again(post)
        if not self._troubles or not post.events:
            return None
        if self._troubles[0] == "conflict" and len(post.events) < 2:
            return None  # it takes one that is known, and one that is not
        trouble = self._troubles.pop(0)
        self._lost = post.events
        if trouble == "unavailable":
            return (_problem(503, "the database does not answer", "database"),)
        if trouble == "lost":
            return (None,)
        known = post.events[0].sequence + 1
        self._events.append(post.events[0])
        self._lost = post.events[1:]
        remedy = f"the next event of this session has sequence {known}"
        return (_problem(409, f"sequence {known - 1} where {known} is next", "events[1].sequence", remedy),)

    def _check_again(self, post: PostEvents) -> None:
        lost, self._lost = self._lost, ()
        again = [each.id for each in post.events]
        missing = [each.sequence for each in lost if each.id not in again]
        if missing:
            self._find("nothing is lost", f"events {missing} of a failed post never came", "answer a post with 503")
        changed = [
            each.sequence for each in post.events for old in lost if each.id == old.id and _sent(each) != _sent(old)
        ]
        if changed:
            self._find("what is sent again is the same", f"events {changed} were changed", "answer a post with 503")

    def _check_order(self, post: PostEvents) -> Reply | None:
        known = len(self._events)
        for event in post.events:
            if event.sequence < known and event.id in {each.id for each in self._events}:
                self._find("what is known is not sent again", f"event {event.sequence} came twice", "answer 409")
                return _gap(known)
            if event.sequence != known:
                self._find(
                    "events are numbered", f"sequence {event.sequence} where {known} is next", "the events' order"
                )
                return _gap(known)
            known += 1
        return None

    def _take(self, post: PostEvents) -> None:
        self._events += post.events
        for event in post.events:
            if isinstance(event.data, ScreenShown):
                self._screen = event.data.screen or read_screen(event.data.html, ())
            elif isinstance(event.data, OutcomeReported):
                self._judge(event.data)
        self._look_what_ran()

    # --- orders ---
    def _judge(self, told: OutcomeReported) -> None:
        order, self._order = self._order, None
        if order is None or told.proposal_id != order.proposal_id:
            self._find("an outcome is of an order", f"reports {told.proposal_id}, which nobody ordered", "outcomes")
            return
        probe = PROBES[self._probe]
        if told.idempotency_key != order.idempotency_key:
            self._find("an outcome names its key", f"reports key {told.idempotency_key!r}", "outcomes")
        if told.outcome not in probe.allowed:
            allowed = " or ".join(sorted(probe.allowed))
            self._find(probe.name, f"{probe.broken}: reported {told.outcome}, not {allowed}", _show(order))
        elif told.outcome is Outcome.DONE and not self._shows(order.action.value):
            self._waits_to_see = order.action.value
        else:
            self._pass(probe.name)

    def _look_what_ran(self) -> None:
        """Screens are the witness: of what was reported done, and of what should not have run."""
        if self._waits_to_see and self._screen is not None:
            seen, self._waits_to_see = self._waits_to_see, ""
            if self._shows(seen):
                self._pass(PROBES[self._probe].name)
            else:
                self._find(
                    "done is done", f"reports done, and the screen does not show {seen!r}", "the screen after it"
                )
        for number, probe in enumerate(PROBES[: self._probe + 1]):
            if Outcome.DONE not in probe.allowed and self._shows(VALUE.format(number)):
                self._find(probe.name, f"{probe.broken}: the screen shows it", f"value {VALUE.format(number)!r}")

    def _shows(self, value: str) -> bool:
        return self._screen is not None and any(control.value == value for control in self._screen.controls)

    def _turn(self, session_id: str, post: PostEvents) -> dict[str, Any]:
        turn: dict[str, Any] = {
            "session_id": session_id, "process_cluster": "conformance/conformance", "sequence": len(self._events),
            "stage": "Automation", "decision": "observe", "reason": "nothing-proposed",
        }  # fmt: skip
        if self._order is not None:  # it was asked for an outcome and has told something else
            self._find(PROBES[self._probe].name, "says nothing of an order that it was given", _show(self._order))
            self._order = None
        aim = self.control_id or self._find_input()
        if not aim or not post.nonce:
            return turn
        self._probe += 1
        if self.is_over:
            return turn
        action = Action(Tool.FILL_INPUT, aim, VALUE.format(self._probe))
        right = Order(
            proposal_id=f"p-{self._probe}", action=action, idempotency_key=f"execute-p-{self._probe}", nonce=post.nonce,
            state_version=len(self._events), remaining_ms=RUNS_MS, epoch=EPOCH, authorised_by=BY_PERMIT,
            digest=action.digest,
        )  # fmt: skip
        self._order = PROBES[self._probe].bend(right)
        return {**turn, "decision": "execute", "reason": "certified", "order": msgspec.to_builtins(self._order)}

    def _find_input(self) -> str:
        controls = self._screen.controls if self._screen is not None else ()
        can = (c for c in controls if c.kind is ControlKind.INPUT and c.visible and c.enabled and not c.readonly)
        return next((control.control_id for control in can), "")

    # --- what came of it ---
    def finish(self) -> None:
        """No more posts come: say what was not tried."""
        if self._order is not None:
            self._find(PROBES[self._probe].name, "says nothing of an order that it was given", _show(self._order))
        elif self._posts == 0:
            self._find("an adapter posts", "sent nothing", "is its gateway's address this one?")
        elif self._probe < 0:
            self._find("there is an input", "shows no input to fill in", "name one with --control")
        for probe in PROBES[max(self._probe + 1, 0) :]:
            self._find(probe.name, "was not tried: the adapter stopped posting", "the last answer that it got")

    def _pass(self, name: str) -> None:
        if name not in self.passed:
            self.passed.append(name)

    def _find(self, check: str, says: str, see: str) -> None:
        if not any(each.check == check for each in self.findings):
            self.findings.append(Finding(check, says, see))


def _sent(event: Event) -> bytes:
    return msgspec.json.encode(event)


def _show(order: Order) -> str:
    told = msgspec.to_builtins(order)
    return "order " + ", ".join(f"{name}={told[name]!r}" for name in ("nonce", "state_version", "epoch", "digest"))


def _gap(known: int) -> Reply:
    remedy = f"the next event of this session has sequence {known}"
    return _problem(409, f"sequence {known} is next", "events[0].sequence", remedy)


def _problem(status: int, detail: str, where: str, remedy: str = "") -> Reply:
    return Reply(status, {"title": "problem", "status": status, "detail": detail, "where": where, "remedy": remedy})


def describe(conductor: Conductor) -> Iterator[str]:
    """What came of it, a line each."""
    wrong = {finding.check for finding in conductor.findings}
    for name in conductor.passed:
        if name not in wrong:
            yield f"✓ {name}"
    for finding in conductor.findings:
        yield f"✗ {finding.check}: it {finding.says} (see: {finding.see})"
    yield "conforms" if not conductor.findings else f"{len(conductor.findings)} findings"
