"""STAR as it is published: dialogues (JSON lines, gzipped or not), forms (apis.json) and procedures (tasks.json).

Decoding and finding the files only; what a dialogue means is dialogue.py. The labels offered to a wizard
(`ActionLabelOptions`) are not decoded; of drafts (`request_suggestions`) and instructions (`UserGuide`) nothing but the
time is used. None of them may ever reach a screen or a state.
"""

import hashlib
import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from pilotage_core.errors import InvalidInputError
from pilotage_core.lines import decode_lines, name_files, read_seconds
from pilotage_simulator.download import download_star

log = logging.getLogger("pilotage.star")

DIALOGUE_FILES = ("dialogues.jsonl.gz", "dialogues.jsonl")
CHECKOUT = Path(__file__).resolve().parents[2]
SHARED = CHECKOUT.parent / "shared" / "data" / "star"

# Nodes of the flow charts that tasks.json lists among its replies; nobody ever says them.
GRAPH_NODES = frozenset(
    {"yes", "no", "available", "unavailable", "done", "correct", "incorrect", "noanswer"}
    | {"query", "query_check", "query_book", "query_success", "query_failure"}
)
# Templates on every screen: courtesies, and two labels that wizards used but tasks.json lacks.
COMMON_REPLIES = {
    "hello": "Hello, how can I help?",
    "ask_name": "Could you give me your name, please?",
    "ask_departure_location": "Where are you departing from?",
    "anything_else": "Is there anything else that I can do for you?",
    "out_of_scope": "I am sorry, I don't quite understand what you mean.",
    "goodbye_1": "Thank you and goodbye.",
    "goodbye_2": "Thank you and goodbye!",
}


def find_reply(label: str, procedure: "Procedure | None") -> str:
    """What template `label` sends while `procedure` is open, as its button shows it; empty where there is none."""
    shown = {**COMMON_REPLIES, **(procedure.replies if procedure else {})}
    return " ".join(shown.get(label, "").split())


class StarEvent(msgspec.Struct, frozen=True):
    """One event of a dialogue; the fields that an action does not have are empty."""

    agent: str = msgspec.field(name="Agent")
    action: str = msgspec.field(name="Action")
    unix_time: float | None = msgspec.field(name="UnixTime", default=None)
    text: str | None = msgspec.field(name="Text", default=None)
    label: str = msgspec.field(name="ActionLabel", default="")
    api: str = msgspec.field(name="APIName", default="")
    constraints: tuple[dict[str, Any], ...] = msgspec.field(name="Constraints", default=())
    item: dict[str, Any] | None = msgspec.field(name="Item", default=None)
    total_items: int = msgspec.field(name="TotalItems", default=0)
    task: str = msgspec.field(name="Task", default="")
    primary_item: dict[str, Any] | None = msgspec.field(name="PrimaryItem", default=None)
    secondary_item: dict[str, Any] | None = msgspec.field(name="SecondaryItem", default=None)


class Capability(msgspec.Struct, frozen=True):
    """A procedure that a wizard could work with in a dialogue."""

    task: str = msgspec.field(name="Task")
    domain: str | None = msgspec.field(name="Domain", default=None)


class Scenario(msgspec.Struct, frozen=True):
    """What a dialogue was about."""

    domains: tuple[str | None, ...] = msgspec.field(name="Domains", default=())
    happy: bool = msgspec.field(name="Happy", default=False)
    multi_task: bool = msgspec.field(name="MultiTask", default=False)
    capabilities: tuple[Capability, ...] = msgspec.field(name="WizardCapabilities", default=())


class Dialogue(msgspec.Struct, frozen=True):
    """One recorded dialogue."""

    dialogue_id: int | str = msgspec.field(name="DialogueID")
    wizard: str = msgspec.field(name="AnonymizedWizardWorkerID")
    scenario: Scenario = msgspec.field(name="Scenario")
    events: tuple[StarEvent, ...] = msgspec.field(name="Events")

    @property
    def domains(self) -> tuple[str, ...]:
        """Its domains, sorted; those that the data leaves unnamed are left out."""
        return tuple(sorted({d for d in self.scenario.domains if d}))


class FormInput(msgspec.Struct, frozen=True):
    """One input of a form. `options` empty: anything can be typed."""

    name: str
    label: str
    type: str
    options: tuple[str, ...] = ()
    required: bool = False


class Procedure(msgspec.Struct, frozen=True):
    """A procedure as the BPM offers it: its form, its buttons, its template replies (label → text)."""

    name: str
    inputs: tuple[FormInput, ...]
    submits: tuple[str, ...]
    replies: dict[str, str]


class Star(msgspec.Struct, frozen=True):
    """The data set: where its dialogues are, and its procedures by name."""

    dialogues: Path
    procedures: dict[str, Procedure]


def find_star(given: str | None = None) -> Path:
    """Folder or file of STAR: `given`, else $STAR, else ../shared/data/star beside the checkout, else a download."""
    named = given or os.environ.get("STAR", "")
    if named:
        path = Path(named).expanduser()
        if not path.exists():
            raise InvalidInputError(
                "there is no such file or folder", where=str(path), remedy="see STAR= in docs/running.md"
            )
        return path
    return SHARED if SHARED.exists() else download_star()


def load_star(source: Path) -> Star:
    """Procedures of `source` (a folder, or a file of dialogues), and where its dialogues are.

    A file without apis.json and tasks.json beside it uses those of the data set that `find_star` finds.
    """
    dialogues = source
    if source.is_dir():
        found = next((source / name for name in DIALOGUE_FILES if (source / name).exists()), None)
        if found is None:
            raise InvalidInputError(f"none of {', '.join(DIALOGUE_FILES)} is here", where=str(source))
        dialogues = found
    beside = dialogues.parent
    if not (beside / "apis.json").exists():
        beside = SHARED if SHARED.exists() else download_star()
    return Star(dialogues, _read_procedures(beside / "apis.json", beside / "tasks.json"))


def read_dialogues(path: Path) -> Iterator[Dialogue]:
    """Every dialogue of `path` once, in its order: its times in seconds, encoded files in its texts as their size.

    How many dialogues were there again, and how many files were in texts, is logged.
    Raises InvalidInputError naming file and line, also for an id that comes with two contents.
    """
    seen: dict[str, tuple[int, bytes]] = {}
    again, files = 0, 0
    with path.open("rb") as file:
        for number, dialogue in decode_lines(file, msgspec.json.Decoder(Dialogue), str(path), "STAR dialogue"):
            content = hashlib.blake2b(msgspec.msgpack.encode(dialogue), digest_size=16).digest()
            line, known = seen.setdefault(str(dialogue.dialogue_id), (number, content))
            if line == number:
                clean, found = _clean(dialogue, f"{path}:{number}")
                files += found
                yield clean
            elif known == content:
                again += 1
            else:
                what = f"DialogueID {dialogue.dialogue_id} is also in line {line}, with another content"
                raise InvalidInputError(what, where=f"{path}:{number}", remedy="give each dialogue an id of its own")
    if again:
        log.warning("%s: %d dialogues were there again: each is read once", path, again)
    if files:
        log.warning("%s: %d files within texts are read as their kind and size", path, files)


def _clean(dialogue: Dialogue, where: str) -> tuple[Dialogue, int]:
    """`dialogue` as `read_dialogues` gives it, and how many files were in its texts."""
    events, files = [], 0
    try:
        for event in dialogue.events:
            time = None if event.unix_time is None else read_seconds(event.unix_time)
            text, found = name_files(event.text) if event.text else (event.text, 0)
            same = time == event.unix_time and not found
            events.append(event if same else msgspec.structs.replace(event, unix_time=time, text=text))
            files += found
    except ValueError as error:
        raise InvalidInputError(f"UnixTime {error}", where=where) from error
    return msgspec.structs.replace(dialogue, events=tuple(events)), files


def _read_procedures(apis_path: Path, tasks_path: Path) -> dict[str, Procedure]:
    apis, tasks = _read_json(apis_path), _read_json(tasks_path)
    try:
        return {name: _build_procedure(name, apis[name], task) for name, task in sorted(tasks.items())}
    except (KeyError, TypeError, AttributeError) as error:
        raise InvalidInputError(f"unexpected content: {error!r}", where=f"{apis_path}, {tasks_path}") from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise InvalidInputError("the file is missing", where=str(path)) from error
    except ValueError as error:
        raise InvalidInputError(f"not JSON: {error}", where=str(path)) from error
    if not isinstance(found, dict):
        raise InvalidInputError("not a JSON object", where=str(path))
    return found


def _build_procedure(name: str, api: dict[str, Any], task: dict[str, Any]) -> Procedure:
    required = set(api.get("required", ()))
    texts = {**task.get("responses", {}), **task.get(name, {}).get("replies", {})}
    inputs: list[FormInput] = []
    submits: tuple[str, ...] = ("submit",)
    for given in api["input"]:
        if given["Type"] == "RequestType":
            submits = tuple(f"submit:{choice.lower()}" for choice in given["Categories"])
            continue
        options = tuple(given.get("Categories", ())) or (("True", "False") if given["Type"] == "Boolean" else ())
        label = given.get("ReadableName", given["Name"])
        inputs.append(FormInput(given["Name"], label, given["Type"], options, given["Name"] in required))
    replies = {label: text for label, text in sorted(texts.items()) if label not in GRAPH_NODES}
    return Procedure(name, tuple(inputs), submits, replies)
