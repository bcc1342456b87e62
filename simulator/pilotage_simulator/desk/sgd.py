"""The Schema-Guided Dialogue set as typed values: services with their intents and slots, dialogues turn by turn.

Format: google-research-datasets/dstc8-schema-guided-dialogue (Rastogi et al. 2020); one dialogue a line, and result
lists may be cut (`service_results_total` says to what). Not here: what a desk makes of it.
"""

import gzip
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, cast

import msgspec

from pilotage_core.errors import EvidenceError, InvalidInputError, UnavailableError
from pilotage_core.lines import GZIP, decode_lines
from pilotage_simulator.desk.download import download_sgd
from pilotage_simulator.star import CHECKOUT

USER, SYSTEM = "USER", "SYSTEM"
SCHEMA_FILE = "schema.json"
SAY_WHAT = frozenset({"INFORM", "INFORM_INTENT", "OFFER_INTENT"})
"""Acts that mean something only by their values."""
DONTCARE = "dontcare"
"""A value: the customer does not mind."""


SHARED = CHECKOUT.parent / "shared" / "data" / "sgd" / "dialogues.jsonl.gz"
"""Beside the checkout, where a workplace keeps data."""


def find_sgd(given: Path | None = None) -> Path:
    """The file of dialogues: `given`, else $SGD, else ../shared/data/sgd beside the checkout, else downloaded."""
    named = given or (Path(os.environ["SGD"]).expanduser() if os.environ.get("SGD") else None)
    if named is None:
        return SHARED if SHARED.is_file() else download_sgd()
    if not named.is_file():
        raise InvalidInputError(
            "there is no such file", where=str(named), remedy="see SGD= in docs/running.md: dialogues.jsonl(.gz)"
        )
    return named


class Slot(msgspec.Struct, frozen=True):
    """One slot of a service. `possible_values` are given where it is categorical, but for some that are not listed."""

    name: str
    is_categorical: bool
    possible_values: tuple[str, ...] = ()
    description: str = ""

    @property
    def options(self) -> tuple[str, ...]:
        """What can be chosen, indifference too; empty where it is typed."""
        listed = self.possible_values if self.is_categorical else ()
        return tuple(dict.fromkeys((*listed, DONTCARE))) if listed else ()


class Intent(msgspec.Struct, frozen=True):
    """What a customer may want of a service. `optional_slots` maps slots to their defaults."""

    name: str
    is_transactional: bool
    required_slots: tuple[str, ...] = ()
    optional_slots: dict[str, str] = {}
    result_slots: tuple[str, ...] = ()
    description: str = ""

    @property
    def slots(self) -> tuple[str, ...]:
        """Its form's fields: the required ones first."""
        return (*self.required_slots, *self.optional_slots)


class Service(msgspec.Struct, frozen=True):
    """One service: intents that read or book, over its slots."""

    service_name: str
    slots: tuple[Slot, ...]
    intents: tuple[Intent, ...]
    description: str = ""

    def intent(self, name: str) -> Intent | None:
        """The intent of that name."""
        return next((intent for intent in self.intents if intent.name == name), None)

    def slot(self, name: str) -> Slot | None:
        """The slot of that name."""
        return next((slot for slot in self.slots if slot.name == name), None)


Schema = dict[str, Service]
"""Services by name."""


class Act(msgspec.Struct, frozen=True):
    """One dialogue act. `values` are in the speaker's words, `canonical_values` as services take them."""

    act: str
    slot: str = ""
    values: tuple[str, ...] = ()
    canonical_values: tuple[str, ...] = ()

    @property
    def names(self) -> frozenset[str]:
        """Its values, in either words."""
        return frozenset((*self.values, *self.canonical_values))


class Call(msgspec.Struct, frozen=True):
    """A call of a service: the intent, and canonical values by slot."""

    method: str
    parameters: dict[str, str]


class Frame(msgspec.Struct, frozen=True):
    """What a turn says to or of one service. `service_results` are rows: canonical values by slot."""

    service: str
    actions: tuple[Act, ...]
    service_call: Call | None = None
    service_results: tuple[dict[str, str], ...] | None = None
    service_results_total: int | None = None


class Turn(msgspec.Struct, frozen=True):
    """One turn: who, in which words, meaning what."""

    speaker: str
    utterance: str
    frames: tuple[Frame, ...]


class Dialogue(msgspec.Struct, frozen=True):
    """One dialogue, customer first."""

    dialogue_id: str
    services: tuple[str, ...]
    turns: tuple[Turn, ...]


class LeftOut(msgspec.Struct):
    """Dialogues that cannot be played: how many by reason, and the first of each."""

    counts: Counter[str] = msgspec.field(default_factory=Counter)
    first: dict[str, str] = msgspec.field(default_factory=dict)

    def add(self, reason: str, where: str) -> None:
        """Count one more."""
        self.counts[reason] += 1
        self.first.setdefault(reason, where)

    def __str__(self) -> str:
        return "; ".join(
            f"{n} left out: {reason} (the first: {self.first[reason]})" for reason, n in self.counts.items()
        )


def read_schema(path: Path) -> Schema:
    """The services of `path`. Raises UnavailableError, InvalidInputError for what is no schema."""
    try:
        services = msgspec.json.decode(path.read_bytes(), type=tuple[Service, ...])
    except OSError as error:
        raise UnavailableError(f"cannot be read: {error.strerror}", where=str(path)) from error
    except msgspec.DecodeError as error:
        raise InvalidInputError(f"is no list of services: {error}", where=str(path)) from error
    return {service.service_name: service for service in services}


def read_dialogues(path: Path, schema: Schema, left_out: LeftOut) -> Iterator[Dialogue]:
    """The dialogues of `path` (JSON lines, gzip too) that `schema` can play; the others are counted in `left_out`.

    Raises UnavailableError, InvalidInputError for a line that is no dialogue (another data set), naming it, and
    EvidenceError where none is left.
    """
    played = 0
    try:
        packed = path.open("rb").read(2) == GZIP
        with gzip.open(path) if packed else path.open("rb") as file:
            lines = decode_lines(cast(BinaryIO, file), msgspec.json.Decoder(Dialogue), str(path), "dialogue")
            for number, dialogue in lines:
                if reason := find_unplayable(dialogue, schema):
                    left_out.add(reason, f"{path}:{number}")
                    continue
                played += 1
                yield dialogue
    except OSError as error:
        raise UnavailableError(f"cannot be read: {error.strerror}", where=str(path)) from error
    if not played:
        raise EvidenceError(f"no dialogue in it can be played. {left_out}", where=str(path))


def find_unplayable(dialogue: Dialogue, schema: Mapping[str, Service]) -> str:
    """Why `dialogue` cannot be played under `schema`; empty where it can."""
    speakers = [turn.speaker for turn in dialogue.turns]
    if speakers != [USER, SYSTEM] * (len(speakers) // 2):
        return "speakers do not take turns, from the customer to the operator"
    for frame in (frame for turn in dialogue.turns for frame in turn.frames):
        service = schema.get(frame.service)
        if reason := f"service {frame.service} is not in the schema" if service is None else _check(frame, service):
            return reason
    if not dialogue.turns or not any(act.act == "GOODBYE" for f in dialogue.turns[-1].frames for act in f.actions):
        return "it does not end with a goodbye"
    return ""


def _check(frame: Frame, service: Service) -> str:
    call = frame.service_call
    intent = service.intent(call.method) if call else None
    if call is not None and intent is None:
        return f"service {frame.service} has no intent {call.method}"
    if call is not None and intent is not None and (other := set(call.parameters) - set(intent.slots)):
        return f"intent {call.method} has no slot {min(other)}"
    for act in frame.actions:
        if act.act in SAY_WHAT and not act.values:
            return f"an {act.act} says nothing"
        slot = service.slot(act.slot) if act.act == "INFORM" else None
        options = slot.options if slot is not None else ()
        if outside := [value for value in act.canonical_values if options and value not in options]:
            return f"slot {act.slot} of service {frame.service} cannot be {outside[0]!r}"
    return ""
