"""The desk's BPM: procedures, forms, result rows, reply templates and their logic. No HTML (screens.py), no network.

What is legal now is what is enabled: a submit needs its required fields, an offer a chosen row, an end a goodbye. What
a reply says is taken from form and row, never from the dialogue.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from pilotage_core.actions import VALUE_TOOLS, Action, Tool
from pilotage_core.errors import InvalidActionError
from pilotage_core.proposal import TOOL_OF_KIND
from pilotage_core.screen import ControlKind
from pilotage_simulator.desk.services import Answer, Services
from pilotage_simulator.desk.sgd import DONTCARE, Act, Call, Intent, Service, Slot

MOST_RADIOS, MOST_OPTIONS = 3, 8
SEARCH, BOOK = "search", "book"
CONFIRM, CONFIRM_TERMS = "say:confirm", "say:confirm-terms"
CLOSED, TRANSFERRED = "closed", "transferred"


class Message(msgspec.Struct, frozen=True):
    """What is said: text, and what it means (the chat shows the text alone)."""

    text: str
    acts: tuple[Act, ...]


class Reply(NamedTuple):
    """A reply template: its control, and the acts that it would say."""

    control_id: str
    acts: tuple[Act, ...]


@dataclass
class Desk:
    """One session at the desk. `closed` is how it ended: CLOSED, TRANSFERRED, or "" while it is open.

    `has_terms`: the changed process. There are terms, a reply asks for a yes to the booking and to them, and a booking
    made without is in `untold`. The reply that asks for the booking alone is there as before.
    """

    services: Services
    service: Service | None = None
    intent: Intent | None = None
    fields: dict[str, str] = field(default_factory=dict)
    submitted: dict[str, str] | None = None
    answer: Answer | None = None
    found_for: str = ""
    row: dict[str, str] | None = None
    said: set[str] = field(default_factory=set)
    has_booked: bool = False
    closed: str = ""
    has_terms: bool = False
    terms_told: bool = False
    untold: int = 0

    # --- what is there -----------------------------------------------------------------------------------------------
    @property
    def is_complete(self) -> bool:
        """Whether every required field of the open form holds something."""
        return self.intent is not None and all(self.fields.get(slot) for slot in self.intent.required_slots)

    @property
    def submit(self) -> str:
        """The control that submits the open form: what books is another than what only searches."""
        return BOOK if self.intent is not None and self.intent.is_transactional else SEARCH

    @property
    def confirm(self) -> str:
        """The reply that asks for a yes before a booking, as the process wants it."""
        return CONFIRM_TERMS if self.has_terms else CONFIRM

    @property
    def can_submit(self) -> bool:
        """Whether the form is complete, and another one than was submitted last."""
        return self.is_complete and self.fields != self.submitted

    @property
    def has_failed(self) -> bool:
        """Whether the last call found nothing or was refused."""
        return self.answer is not None and (self.answer.failed or not self.answer.rows)

    @property
    def alternative(self) -> dict[str, str]:
        """The form as the service that refused it would take it; empty where it does not say."""
        if self.answer is None or not self.answer.failed or not self.answer.rows:
            return {}
        return {slot: value for slot, value in self.answer.rows[0].items() if self.fields.get(slot)}

    @property
    def is_booked(self) -> bool:
        """Whether the form on the screen has been transacted."""
        transactional = self.intent is not None and self.intent.is_transactional
        return transactional and self.submitted == self.fields and self.answer is not None and not self.answer.failed

    def replies(self) -> Iterator[Reply]:
        """The templates that can be said now, with their acts."""
        if self.intent is not None:
            empty = [slot for slot in self.intent.slots if not self.fields.get(slot)]
            missing = [slot for slot in self.intent.required_slots if slot in empty]
            for slots in [[slot] for slot in empty] + ([missing] if len(missing) > 1 else []):
                yield Reply(f"say:request:{'+'.join(slots)}", tuple(Act("REQUEST", slot) for slot in slots))
            if self.intent.is_transactional and self.can_submit:
                held = {slot: value for slot, value in self.fields.items() if value}
                for control_id in (CONFIRM, CONFIRM_TERMS) if self.has_terms else (CONFIRM,):
                    yield Reply(control_id, _tell("CONFIRM", held, self.services))
            if self.is_booked:
                yield Reply("say:success", (Act("NOTIFY_SUCCESS"),))
        if self.has_failed or (self.row is not None and self._rows() and not self.has_booked):  # or: no other one
            yield Reply("say:failure", (Act("NOTIFY_FAILURE"), Act("REQ_MORE")))
        if self.alternative:
            yield Reply("say:alternative", (Act("NOTIFY_FAILURE"), *_tell("OFFER", self.alternative, self.services)))
        if self.row is not None:
            yield Reply("say:offer", _tell("OFFER", self.row, self.services))
            for slot in self.row:
                yield Reply(f"say:inform:{slot}", _tell("INFORM", {slot: self.row[slot]}, self.services))
            for intent in self.service.intents if self.service else ():
                if intent.is_transactional:
                    yield Reply(f"say:offer-intent:{intent.name}", (Act("OFFER_INTENT", "intent", (intent.name,)),))
        yield Reply("say:more", (Act("REQ_MORE"),))
        yield Reply("say:goodbye", (Act("GOODBYE"),))

    def find_text(self, control_id: str) -> str:
        """What the template `control_id` would say now; empty where it cannot be said."""
        return next((write_text(reply) for reply in self.replies() if reply.control_id == control_id), "")

    # --- what is done ------------------------------------------------------------------------------------------------
    def act(self, action: Action) -> Message | None:
        """Do `action`; the message, where it sends one. Raises InvalidActionError for what is not enabled now."""
        if self.closed:
            raise InvalidActionError("the session is over", where="desk")
        kind, _, rest = action.control_id.partition(":")
        match action.tool:
            case Tool.OPEN_PROCEDURE if kind == "open":
                self._open(*rest.partition("/")[::2])
            case Tool.CLICK_CONTROL if action.control_id == self.submit and self.can_submit:
                self._submit()
            case Tool.CLICK_CONTROL if kind == "row" and rest.isdecimal() and int(rest) < len(self._rows()):
                self.row = self._rows()[int(rest)]
            case Tool.SEND_TEXT_TO_CHAT:
                return self._say(action.control_id)
            case Tool.CLOSE_CHAT if "say:goodbye" in self.said:
                self.closed = CLOSED
            case Tool.TRANSFER_CHAT:
                self.closed = TRANSFERRED
            case _ if action.tool in VALUE_TOOLS and kind == "slot":
                self._fill(rest, action)
            case _:
                raise InvalidActionError(f"{action.tool} {action.control_id} is not enabled now", where="desk")
        return None

    def _rows(self) -> tuple[dict[str, str], ...]:
        return self.answer.rows if self.answer is not None else ()

    def _open(self, service: str, intent: str) -> None:
        """An empty form; a transactional one has its defaults, and what it requires of its service's chosen row."""
        found = self.services.schema.get(service)
        wanted = found.intent(intent) if found is not None else None
        if found is None or wanted is None:
            raise InvalidActionError(f"there is no procedure {service}/{intent}", where="desk")
        carried = self.row if self.row is not None and self.found_for == service else {}
        self.service, self.intent, self.submitted, self.answer = found, wanted, None, None
        self.has_booked = self.terms_told = False
        self.fields = dict.fromkeys(wanted.slots, "")
        if wanted.is_transactional:
            self.fields |= {slot: value for slot, value in wanted.optional_slots.items() if value != DONTCARE}
            self.fields |= {slot: value for slot, value in carried.items() if slot in wanted.required_slots}

    def _fill(self, name: str, action: Action) -> None:
        slot = self.service.slot(name) if self.service is not None else None
        if slot is None or name not in self.fields or action.tool is not TOOL_OF_KIND[find_kind(slot)]:
            raise InvalidActionError(f"{action.tool} {action.control_id} is not enabled now", where="desk")
        if (options := slot.options) and action.value not in options:
            raise InvalidActionError(f"{action.value!r} is none of {', '.join(options)}", where=action.control_id)
        if not action.value.isprintable():
            raise InvalidActionError("a field takes one line", where=action.control_id)
        self.fields[name] = action.value

    def _submit(self) -> None:
        assert self.service is not None
        assert self.intent is not None
        held = {slot: self.services.understand(slot, value) for slot, value in self.fields.items() if value}
        self.answer = self.services.call(self.service.service_name, Call(self.intent.name, held))
        self.submitted, self.found_for = dict(self.fields), self.service.service_name
        self.has_booked = self.has_booked or self.is_booked
        self.untold += self.has_terms and self.is_booked and not self.terms_told
        self.row = self.answer.rows[0] if self.intent.is_transactional and self.answer.rows else None

    def _say(self, control_id: str) -> Message:
        reply = next((reply for reply in self.replies() if reply.control_id == control_id), None)
        if reply is None:
            raise InvalidActionError(f"send_text_to_chat {control_id} is not enabled now", where="desk")
        self.said.add(control_id)
        self.terms_told = self.terms_told or control_id == CONFIRM_TERMS
        return Message(write_text(reply), reply.acts)


def find_kind(slot: Slot) -> ControlKind:
    """What control a slot's field is: by whether its values are listed, and how many there are."""
    if not slot.is_categorical or not slot.possible_values:
        return ControlKind.INPUT
    if len(slot.possible_values) <= MOST_RADIOS:
        return ControlKind.RADIO
    return ControlKind.SELECT if len(slot.possible_values) <= MOST_OPTIONS else ControlKind.COMBO_BOX


def _tell(act: str, values: Mapping[str, str], services: Services) -> tuple[Act, ...]:
    return tuple(Act(act, slot, (value,), (services.understand(slot, value),)) for slot, value in values.items())


TEMPLATES = {
    "request": "Could you tell me the {slots}?",
    "confirm": "Please confirm: {pairs}.",
    "confirm-terms": "Please confirm: {pairs}. Our terms apply: what is cancelled on the day has to be paid.",
    "success": "That is done.",
    "failure": "I am sorry, that did not work. Is there anything else I can do?",
    "alternative": "I am sorry, that did not work. What would: {pairs}. Shall I?",
    "offer": "I have this for you: {pairs}.",
    "inform": "The {pairs}.",
    "offer-intent": "Shall I do this for you: {values}?",
    "more": "Is there anything else I can do?",
    "goodbye": "Thank you for calling. Have a good day!",
}


def write_text(reply: Reply) -> str:
    """What a template says."""
    kind = reply.control_id.split(":")[1]
    words = [(act.slot.replace("_", " "), ", ".join(act.values)) for act in reply.acts if act.slot]
    return TEMPLATES[kind].format(
        slots=" and the ".join(slot for slot, _ in words),
        pairs=", ".join(f"{slot} is {value}" for slot, value in words),
        values=", ".join(value for _, value in words),
    )
