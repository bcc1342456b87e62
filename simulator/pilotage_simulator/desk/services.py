"""What lies behind the desk: services that answer calls as the dialogue's did, and the books of what was transacted.

A call is answered by the record where it was made there; any other one as a service would: rows that fit, a booking of
whatever was asked for. Not here: forms and screens (desk.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from pilotage_simulator.desk.sgd import DONTCARE, SYSTEM, Call, Dialogue, Schema, Service


class Booking(msgspec.Struct, frozen=True, order=True):
    """One transaction in the books: service, intent, and canonical values by slot."""

    service: str
    intent: str
    parameters: tuple[tuple[str, str], ...]


def build_booking(service: Service, call: Call) -> Booking:
    """The booking that `call` makes: what nobody cares about is left out, a transaction's defaults are in it."""
    intent = service.intent(call.method)
    defaults = intent.optional_slots if intent is not None and intent.is_transactional else {}
    parameters = {slot: value for slot, value in (defaults | call.parameters).items() if value != DONTCARE}
    return Booking(service.service_name, call.method, tuple(sorted(parameters.items())))


class Answer(msgspec.Struct, frozen=True):
    """What a service answers: rows (of how many), or that it failed. A transaction gives one row: what was booked."""

    rows: tuple[dict[str, str], ...] = ()
    total: int = 0
    failed: bool = False


@dataclass
class Services:
    """The services of one dialogue. `books` are what was transacted so far, `calls` all that they were asked."""

    schema: Schema
    answers: dict[tuple[str, str, tuple[tuple[str, str], ...]], Answer]
    canonical: dict[tuple[str, str], str]
    rows: dict[tuple[str, str], list[dict[str, str]]]
    books: list[Booking] = field(default_factory=list)
    calls: list[Booking] = field(default_factory=list)

    def understand(self, slot: str, text: str) -> str:
        """`text`, typed into the field of `slot`, as services take it."""
        return self.canonical.get((slot, text.strip().casefold()), text.strip())

    def call(self, service: str, call: Call) -> Answer:
        """Answer `call`; a transaction that succeeds is in the books."""
        booking = build_booking(self.schema[service], call)
        self.calls.append(booking)
        intent = self.schema[service].intent(call.method)
        answer = self.answers.get((service, call.method, booking.parameters))
        if intent is not None and intent.is_transactional:
            answer = answer or Answer((call.parameters,), 1)
            if not answer.failed:
                self.books.append(booking)
            return answer
        if answer is None:
            fitting = [row for row in self.rows.get((service, call.method), ()) if fits(row, call.parameters)]
            answer = Answer(tuple(fitting), len(fitting))
        return answer


def fits(row: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    """Whether `row` has what is `wanted`, as far as it says."""
    return all(value == DONTCARE or row.get(slot, value) == value for slot, value in wanted.items())


def build_services(dialogue: Dialogue, schema: Schema) -> Services:
    """The services as `dialogue` knows them."""
    answers: dict[tuple[str, str, tuple[tuple[str, str], ...]], Answer] = {}
    canonical: dict[tuple[str, str], str] = {}
    rows: dict[tuple[str, str], list[dict[str, str]]] = {}
    for turn in dialogue.turns:
        for frame in turn.frames:
            for act in frame.actions:
                for value, meant in zip(act.values, act.canonical_values, strict=False):
                    canonical[act.slot, value.casefold()] = meant
                    canonical[act.slot, meant.casefold()] = meant
            if turn.speaker != SYSTEM or frame.service_call is None:
                continue
            booking = build_booking(schema[frame.service], frame.service_call)
            found = frame.service_results or ()
            failed = any(act.act == "NOTIFY_FAILURE" for act in frame.actions)
            total = frame.service_results_total or len(found)
            answers[frame.service, booking.intent, booking.parameters] = Answer(found, total, failed)
            known = rows.setdefault((frame.service, booking.intent), [])
            known += [row for row in found if row not in known]
    return Services(schema, answers, canonical, rows)
