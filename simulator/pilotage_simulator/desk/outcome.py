"""How a session came out: by the BPM's books, the answers given and the customer's leave, never by the path.

Right: the transactions are the goal's, every question was answered correctly, terms were told before a booking where
there are any, the customer had finished, and the session was closed or rightly given to another hand. A transaction too
many or another one is wrong, one too few missing; the two count apart.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec

from pilotage_core.actions import Tool
from pilotage_core.errors import EvidenceError
from pilotage_core.events import Closing
from pilotage_simulator.desk.clerk import Manners
from pilotage_simulator.desk.customer import Customer
from pilotage_simulator.desk.desk import CLOSED, TRANSFERRED, Desk
from pilotage_simulator.desk.services import Booking, build_booking
from pilotage_simulator.desk.sgd import SYSTEM, Dialogue, LeftOut, Schema

TIMED_OUT = "timed out"
CLOSINGS = {CLOSED: Closing.CLOSED, TRANSFERRED: Closing.TRANSFERRED}


class Outcome(msgspec.Struct, frozen=True):
    """One session: how it ended, what was not right about it, how many actions it took by tool, and active seconds.

    `untold` counts bookings whose terms nobody told, where there are any.
    """

    dialogue_id: str
    ended: str
    goal: tuple[Booking, ...]
    wrong: tuple[Booking, ...]
    missing: tuple[Booking, ...]
    unserved: tuple[str, ...]
    unanswered: tuple[str, ...]
    misinformed: tuple[str, ...]
    untold: int
    customer_finished: bool
    actions: dict[str, int]
    operator_seconds: float

    @property
    def closing(self) -> Closing:
        """How it ended, as an event says it."""
        return CLOSINGS.get(self.ended, Closing.TIMED_OUT)

    @property
    def is_right(self) -> bool:
        """Whether nothing is amiss. A transfer is another's to finish: right as far as the books are."""
        amiss = self.wrong or self.missing or self.unserved or self.unanswered or self.misinformed or self.untold
        return not amiss and self.customer_finished and self.ended != TIMED_OUT


def read_goal_bookings(dialogue: Dialogue, schema: Schema) -> list[Booking]:
    """The transactions that succeeded as recorded."""
    return [
        build_booking(schema[frame.service], frame.service_call)
        for turn in dialogue.turns
        if turn.speaker == SYSTEM
        for frame in turn.frames
        if frame.service_call is not None and any(act.act == "NOTIFY_SUCCESS" for act in frame.actions)
    ]


def find_unserved(schema: Schema, desk: Desk, customer: Customer) -> Iterator[str]:
    """The intents for which no service was asked the like of what was asked as recorded, or whose end was not told.

    Alike: the same required values, and no other value of an optional one. The end is the best that was recorded: a
    success, else an offer. So neither a failure that was never tried nor a search that was never told passes for it.
    """
    for number, task in enumerate(customer.tasks):
        recorded = [build_booking(schema[service], call) for service, call in task.calls]
        tried = not recorded or any(_is_like(made, call, schema) for made in desk.services.calls for call in recorded)
        told = task.ends in ("", "NOTIFY_FAILURE") or task.ends in customer.heard[number]
        if not (tried and told):
            yield task.intent


def _is_like(made: Booking, recorded: Booking, schema: Schema) -> bool:
    if (made.service, made.intent) != (recorded.service, recorded.intent):
        return False
    intent = schema[made.service].intent(made.intent)
    ours, theirs = dict(made.parameters), dict(recorded.parameters)
    required = intent.required_slots if intent is not None else ()
    same = all(ours.get(slot) == theirs.get(slot) for slot in required)
    return same and all(ours[slot] == theirs[slot] for slot in ours.keys() & theirs.keys())


def judge(
    dialogue: Dialogue, schema: Schema, desk: Desk, customer: Customer, actions: Mapping[Tool, int], seconds: float
) -> Outcome:
    """How the session at `desk` came out for `customer`, after `actions` that took `seconds`."""
    goal = Counter(read_goal_bookings(dialogue, schema))
    books = Counter(desk.services.books)
    return Outcome(
        dialogue.dialogue_id,
        desk.closed or TIMED_OUT,
        tuple(sorted(goal.elements())),
        tuple(sorted((books - goal).elements())),
        tuple(sorted((goal - books).elements())),
        tuple(find_unserved(schema, desk, customer)),
        tuple(question.slot for question in customer.questions if question.answered is None),
        tuple(question.slot for question in customer.questions if question.answered is False),
        desk.untold,
        customer.finished,
        {tool.value: actions[tool] for tool in Tool if tool in actions},
        seconds,
    )


class Summary(msgspec.Struct, frozen=True):
    """How sessions came out. Shares are of `sessions`; `right_with_transactions` of those whose goal has any.

    `actions` are means a session, and so are `operator_seconds` as assumed (effort.py), at half and at double of that;
    `manners` are the operators' assumed rates; `left_out` counts dialogues that cannot be played, by reason.
    """

    sessions: int
    right: float
    right_with_transactions: float | None
    transferred: float
    timed_out: float
    wrong_transactions: float
    missing_transactions: float
    unserved: float
    answers_missing: float
    answers_wrong: float
    unfinished: float
    actions: dict[str, float]
    operator_seconds: dict[str, float]
    manners: Manners
    left_out: dict[str, int]
    not_right: tuple[str, ...]

    def __str__(self) -> str:
        lines = [f"{self.sessions} sessions, {self.right:.2%} right"]
        if self.right_with_transactions is not None:
            lines.append(f"{self.right_with_transactions:.2%} right of those that book something")
        lines.append(f"{self.wrong_transactions:.2%} with a wrong booking, {self.missing_transactions:.2%} lack one")
        lines.append(f"{self.unserved:.2%} with an intent that was not served")
        lines.append(f"{self.answers_missing:.2%} with questions unanswered, {self.answers_wrong:.2%} answered wrongly")
        lines.append(f"{self.unfinished:.2%} ended before the customer had finished, {self.timed_out:.2%} timed out")
        lines.append(f"{self.transferred:.2%} transferred to another hand")
        rates = ", ".join(f"{name} {rate:g}" for name, rate in msgspec.structs.asdict(self.manners).items())
        lines.append(f"operators, as assumed: {rates}")
        lines.append(f"{sum(self.actions.values()):.1f} actions a session")
        told = ", ".join(f"{seconds:.0f} {name}" for name, seconds in self.operator_seconds.items())
        lines.append(f"operator's active seconds a session: {told}")
        return "\n".join([*lines, *(f"{count} left out: {reason}" for reason, count in self.left_out.items())])


def summarise(outcomes: Sequence[Outcome], manners: Manners, left_out: LeftOut) -> Summary:
    """The summary of `outcomes` under `manners`. Raises EvidenceError where there are none."""
    if not outcomes:
        raise EvidenceError("no session was played", where="sessions")

    def share(of: Callable[[Outcome], object], among: Sequence[Outcome] = outcomes) -> float:
        return sum(1 for outcome in among if of(outcome)) / len(among)

    booking = [outcome for outcome in outcomes if outcome.goal]
    actions = sum((Counter(outcome.actions) for outcome in outcomes), Counter[str]())
    seconds = sum(outcome.operator_seconds for outcome in outcomes) / len(outcomes)
    return Summary(
        sessions=len(outcomes),
        right=share(lambda outcome: outcome.is_right),
        right_with_transactions=share(lambda outcome: outcome.is_right, booking) if booking else None,
        transferred=share(lambda outcome: outcome.ended == TRANSFERRED),
        timed_out=share(lambda outcome: outcome.ended == TIMED_OUT),
        wrong_transactions=share(lambda outcome: outcome.wrong),
        missing_transactions=share(lambda outcome: outcome.missing),
        unserved=share(lambda outcome: outcome.unserved),
        answers_missing=share(lambda outcome: outcome.unanswered),
        answers_wrong=share(lambda outcome: outcome.misinformed),
        unfinished=share(lambda outcome: not outcome.customer_finished),
        actions={tool: count / len(outcomes) for tool, count in actions.items()},
        operator_seconds={"assumed": seconds, "half": seconds / 2, "double": seconds * 2},
        manners=manners,
        left_out=dict(left_out.counts),
        not_right=tuple(outcome.dialogue_id for outcome in outcomes if not outcome.is_right),
    )
