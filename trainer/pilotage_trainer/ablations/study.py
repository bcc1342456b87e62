"""What all arms of an ablation share: one split of the sessions by time, one budget, one configuration.

The held-out sessions are the newest; nothing is learned from them or chosen by them. Not here: arms (arms.py), runs.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from pilotage_core.dialog import DialogFormat
from pilotage_core.errors import EvidenceError, InvalidInputError
from pilotage_core.events import ScreenShown, SessionOpened
from pilotage_core.record import SessionRecord
from pilotage_core.training import DatasetSettings
from pilotage_trainer.ablations.arms import Ablation, Arm, find_ablation
from pilotage_trainer.artefact import digest_bytes
from pilotage_trainer.config import JobConfig, encode_config, read_config
from pilotage_trainer.sessions.export import closed_after, closed_by, read_export, require_times, split_by_time
from pilotage_trainer.window import Window, digest_records, require_sessions

STUDY = "study.json"
PLAN = "plan"
"""What the oracle's line of the case calls the screens to come."""


@dataclass(frozen=True)
class AblationRequest:
    """What the command was asked. A budget of 0 tokens and 0 seconds is the configuration's epochs of the reference."""

    name: str
    export: str
    out: Path
    config: str = ""
    process_cluster: str = ""
    since: str = ""
    until: str = ""
    held_out_share: float = 0.1
    seeds: int = 1
    budget_tokens: int = 0
    budget_seconds: int = 0
    arms: str = ""


@dataclass(frozen=True)
class Study:
    """The sessions by side, each by closing time, and how every arm is run."""

    ablation: Ablation
    arms: tuple[Arm, ...]
    request: AblationRequest
    config: JobConfig
    window: Window
    train: Sequence[SessionRecord]
    development: Sequence[SessionRecord]
    held_out: Sequence[SessionRecord]
    identity: str = ""

    @property
    def out(self) -> Path:
        """Where everything goes."""
        return self.request.out

    def newest(self, share: float) -> list[SessionRecord]:
        """The newest `share` of the training sessions."""
        return list(self.train[len(self.train) - max(1, round(len(self.train) * share)) :])

    def find_settings(self, arm: Arm) -> DatasetSettings:
        """The configuration's, but for what `arm` does in another way."""
        return self.config.transformers.dataset.model_copy(update=dict(arm.dataset))

    def find_form(self, arm: Arm) -> DialogFormat:
        """How the dialogs of `arm` are written."""
        return self.find_settings(arm).form

    def find_prompt_format(self, arm: Arm) -> str:
        """What the manifest of `arm` names. With a plan it is of nothing that is written: it is never served."""
        plain = self.find_form(arm).digest
        return hashlib.blake2b(f"plan:{plain}".encode(), digest_size=8).hexdigest() if arm.plan else plain

    def describe_split(self) -> dict[str, object]:
        """Sessions of each side and when the last of them closed."""
        sides = {"train": self.train, "development": self.development, "held-out": self.held_out}
        return {
            name: {"sessions": len(some), "closed_until": some[-1].closed_at, "data": digest_records(some)}
            for name, some in sides.items()
        }


def read_study(request: AblationRequest) -> Study:
    """The study of `request`. Raises InvalidInputError where --out holds another one, EvidenceError for too little."""
    ablation = find_ablation(request.name)
    arms, config = ablation.choose(request.arms), read_config(request.config)
    if request.budget_tokens and request.budget_seconds:
        raise InvalidInputError("one budget, not two", where="--budget-tokens and --budget-seconds")
    if request.seeds < 1:
        raise InvalidInputError(f"{request.seeds} seeds are none", where="--seeds")
    require_times(since=request.since, until=request.until)
    records = read_export(request.export, request.process_cluster, request.since, request.until)
    require_sessions(records, "to learn from")
    cluster = request.process_cluster or records[-1].process_cluster
    window = Window(request.export, cluster, ablation.name, request.out, held_out_share=request.held_out_share)
    kept, held_out = window.hold_out(records[-config.rolling_window_sessions :])
    require_sessions(kept, "to learn from")
    train, development = split_by_time(kept, config.selection.policy_development_share)
    if train and development:  # as the data set has it: what closed in one moment is on one side
        last = train[-1].closed_at
        train, development = closed_by(kept, last), closed_after(kept, last)
    for name, some in (("training", train), ("development", development), ("held-out", held_out)):
        if not some:
            raise EvidenceError(f"no {name} session", where="window", remedy="widen it, or raise that side's share")
    study = Study(ablation, arms, request, config, window, train, development, held_out)
    return _claim(study)


def _claim(study: Study) -> Study:
    """`study` with its identity, which --out keeps. Raises InvalidInputError where it holds another study."""
    request = study.request
    given = [
        study.ablation.name, study.describe_split(), encode_config(study.config).decode(), request.budget_tokens,
        request.budget_seconds,
    ]  # fmt: skip
    identity = digest_bytes(msgspec.json.encode(given, order="sorted"))
    path = study.out / STUDY
    if path.exists():
        if msgspec.json.decode(path.read_bytes()).get("identity") != identity:
            raise InvalidInputError(
                "holds an ablation of other sessions, budget or configuration",
                where=f"--out {study.out}",
                remedy="name another folder, or give what it was begun with",
            )
    else:
        study.out.mkdir(parents=True, exist_ok=True)
        told = {"ablation": study.ablation.name, "identity": identity, "split": study.describe_split()}
        path.write_bytes(msgspec.json.format(msgspec.json.encode(told)))
    return replace(study, identity=identity)


def add_plan(record: SessionRecord) -> SessionRecord:
    """`record` with the screens it will show told in its case: the oracle's gold plan."""
    shown: list[str] = []
    for event in record.events:
        screen = event.data.screen if isinstance(event.data, ScreenShown) else None
        if screen is not None and shown[-1:] != [screen.name]:
            shown.append(screen.name)
    told = " > ".join(shown)
    events = tuple(
        msgspec.structs.replace(e, data=msgspec.structs.replace(e.data, metadata={**e.data.metadata, PLAN: told}))
        if isinstance(e.data, SessionOpened)
        else e
        for e in record.events
    )
    return msgspec.structs.replace(record, events=events)


def prepare(records: Sequence[SessionRecord], arm: Arm) -> list[SessionRecord]:
    """`records` as `arm` tells them."""
    return [add_plan(record) for record in records] if arm.plan else list(records)
