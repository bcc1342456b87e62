"""STAR's published measure of a policy: accuracy and weighted F1 of the wizard's next query or template message.

A point is each `query` (split into query, query_check, query_book) and `pick_suggestion` of a dialogue; its label is
the query's kind, or the template that the message instantiates. A policy is asked as in serving, constrained to what is
on the screen, less what is no label (nothing, typing, opening, rows): a template that the screen does not offer can
only be missed. Not here: reading STAR (entry point `pilotage.benchmarks`), asking a transformer (the backends).
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import entry_points
from pathlib import Path

import msgspec

from pilotage_core.actions import Action, ActionRules, Tool
from pilotage_core.dialog import DialogFormat
from pilotage_core.errors import EvidenceError, UnavailableError
from pilotage_core.events import ActionTaken
from pilotage_core.proposal import fill_text, visible_controls
from pilotage_core.record import SessionRecord
from pilotage_core.walk import SessionWalk
from pilotage_trainer.artefact import read_manifest
from pilotage_trainer.backends.interface import NO_LABEL, Choice, Chosen
from pilotage_trainer.backends.open import find_artefact, find_backend
from pilotage_trainer.measures.accuracy import accuracy, weighted_f1
from pilotage_trainer.measures.ranking import coverage_at_precision

GROUP = "pilotage.benchmarks"
PRECISION = 0.9
SUBMIT, REPLY = "submit", "reply:"


class Scores(msgspec.Struct, frozen=True, rename={"coverage": "coverage_at_precision_0.9"}):
    """Measures over a set of points. `coverage`: see COVERAGE. `not_offered` points could only be missed."""

    accuracy: float
    weighted_f1: float
    coverage: float
    n: int
    not_offered: int
    dialogues: int


COVERAGE = (
    "points are sorted by the policy's confidence, its own probability of the action predicted (not renormalised over "
    "the labels on the screen), ties together; coverage is the largest share of all points of the set that can be "
    "kept, most confident first, with at least 0.9 of those kept right. Its threshold is chosen on these very points: "
    "it describes them and certifies nothing."
)


class StarReport(msgspec.Struct, frozen=True):
    """What `evaluate --star` prints. `standard` is the published set, `all` every dialogue of the file."""

    standard: Scores
    all: Scores
    policy: str
    backend: str
    source: str
    seconds: float
    coverage_means: str = COVERAGE


def run_star(source: Path, folder: Path) -> StarReport:
    """Measure the policy at `folder` on the STAR dialogues of `source`.

    Raises InvalidInputError and EvidenceError for the dialogues, DamagedArtefactError for the policy.
    """
    begun = time.monotonic()
    folder = find_artefact(folder, "policy")
    manifest = read_manifest(folder)
    chooser = find_backend(manifest, folder).open_chooser(folder)
    standard: list[tuple[Choice, Chosen]] = []
    everything: list[tuple[Choice, Chosen]] = []
    sessions = {"standard": 0, "all": 0}
    for record, is_standard in read_benchmark(source):
        choices = list(list_choices(record, manifest.dialog))
        if not choices:
            continue
        judged = list(zip(choices, chooser.choose(choices), strict=True))
        everything += judged
        sessions["all"] += 1
        if is_standard:
            standard += judged
            sessions["standard"] += 1
    if not everything:
        raise EvidenceError("no dialogue in it has a query or a template message", where=str(source))
    return StarReport(
        standard=score_choices(standard, sessions["standard"]),
        all=score_choices(everything, sessions["all"]),
        policy=manifest.digest,
        backend=manifest.backend,
        source=str(source),
        seconds=round(time.monotonic() - begun, 2),
    )


def score_choices(judged: Sequence[tuple[Choice, Chosen]], dialogues: int) -> Scores:
    """The published measures, and coverage at PRECISION, over `judged` points."""
    truth, predicted = [choice.label for choice, _ in judged], [chosen.label for _, chosen in judged]
    right = [a == b for a, b in zip(truth, predicted, strict=True)]
    return Scores(
        accuracy=accuracy(truth, predicted),
        weighted_f1=weighted_f1(truth, predicted),
        coverage=coverage_at_precision([chosen.confidence for _, chosen in judged], right, PRECISION),
        n=len(judged),
        not_offered=sum(choice.label not in choice.offered for choice, _ in judged),
        dialogues=dialogues,
    )


# --- points -----------------------------------------------------------------------------------------------------------
def read_benchmark(source: Path) -> Iterable[tuple[SessionRecord, bool]]:
    """Sessions of `source`, and whether each is in the published set. Raises UnavailableError without a reader."""
    found = entry_points(group=GROUP, name="star")
    if not found:
        raise UnavailableError("nothing here reads STAR", where=f"entry point {GROUP}", remedy="install pilotage anew")
    read = next(iter(found)).load()
    sessions: Iterable[tuple[SessionRecord, bool]] = read(source)
    return sessions


def name_label(action: Action) -> str:
    """The benchmark's label of `action`: query, query_check, query_book, a template's name; NO_LABEL for the rest."""
    kind, _, name = action.control_id.partition(":")
    if action.tool is Tool.CLICK_CONTROL and kind == SUBMIT:
        return f"query_{name}" if name else "query"
    if action.tool is Tool.SEND_TEXT_TO_CHAT and action.control_id.startswith(REPLY):
        return name
    return NO_LABEL


def list_choices(record: SessionRecord, form: DialogFormat) -> Iterator[Choice]:
    """The points of `record`: every action of the wizard that has a label. Prompts are written in `form`."""
    walk = SessionWalk(form)
    for event in record.events:
        if isinstance(event.data, ActionTaken) and (label := name_label(event.data.actions[0])):
            offered = {
                name: action
                for tool, ids in visible_controls(ActionRules(), walk.state.screen).items()
                for action in (fill_text(Action(tool, control_id), walk.state.screen) for control_id in ids)
                if (name := name_label(action))
            }
            yield Choice(walk.dialog.prompt(), label, offered)
        walk.step(event)
