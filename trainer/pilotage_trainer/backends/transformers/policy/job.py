"""The policy Job of transformers: a data set, training, the candidate whose confidence is worth most, its artefact.

Every process of several runs this; the first makes the data set, chooses and writes. Not here: the command line
(commands/), the data set (rows/job.py), the loop (sft.py), the choice (choosing.py),
what training goes on from after a rollback (earlier.py).
"""

import gzip
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from transformers import PreTrainedTokenizerFast

from pilotage_core.dialog import DialogFormat
from pilotage_core.errors import InvalidInputError
from pilotage_core.record import SessionRecord
from pilotage_core.wire import JobResult
from pilotage_trainer.artefact import MANIFEST, Manifest, check_artefact
from pilotage_trainer.backends.transformers import find_maker
from pilotage_trainer.backends.transformers.asking.export import TRAINING, digest_base_of, write_transformer
from pilotage_trainer.backends.transformers.asking.inference import PolicyModel, find_device
from pilotage_trainer.backends.transformers.policy.choosing import JudgedCandidate, choose_candidate
from pilotage_trainer.backends.transformers.policy.earlier import find_earlier
from pilotage_trainer.backends.transformers.rows.card import CARD, Card
from pilotage_trainer.backends.transformers.rows.choice import DatasetRequest
from pilotage_trainer.backends.transformers.rows.folder import KIND, TOKENIZER
from pilotage_trainer.backends.transformers.rows.job import run_dataset
from pilotage_trainer.backends.transformers.rows.shards import Rows, read_rows
from pilotage_trainer.backends.transformers.rows.tokenizer import load_tokenizer
from pilotage_trainer.backends.transformers.training.metrics_file import METRICS
from pilotage_trainer.backends.transformers.training.model import build_model, read_candidate
from pilotage_trainer.backends.transformers.training.processes import open_state
from pilotage_trainer.backends.transformers.training.sft import Candidate, Trained, train
from pilotage_trainer.config import JobConfig
from pilotage_trainer.results import tell
from pilotage_trainer.sessions.export import closed_after, read_time
from pilotage_trainer.window import Window, build_digests, digest_records, require_sessions

MOST_JUDGED = 200
"""Development sessions that candidates are asked about, the newest: enough to tell them apart, minutes on a CPU."""


@dataclass(frozen=True)
class Material:
    """What a policy learns from. `records` are the sessions behind it by closing time, `development` the newest.

    None of those closed by `trained_until`: they only choose the revision, so a critic may learn from them. `dialog`
    is how sessions are written.
    """

    train: Rows
    development_rows: Rows
    tokenizer: PreTrainedTokenizerFast
    records: Sequence[SessionRecord]
    development: Sequence[SessionRecord]
    trained_until: str
    dialog: DialogFormat
    identity: str


def run_policy(window: Window, config: JobConfig, dataset: Path | None = None, start_from: str = "") -> JobResult:
    """Train a policy on the window, held-out sessions left out, or on the rows of `dataset`.

    After a rollback on the fresh sessions alone, going on from the weights of revision `start_from`. Raises
    EvidenceError where there is too little, BaseModelError, SplitLabelError, NotANumberError, WorkerDiedError,
    DamagedArtefactError, OSError.
    """
    if config.transformers.policy.lora.rank and not (config.base_model and Path(config.base_model).is_dir()):
        raise InvalidInputError(
            "adapters are served beside the base they were trained on, so it has to be a folder",
            where=f"baseModel {config.base_model!r}",
            remedy="download it (hf download) and name the folder, or set lora.rank to 0",
        )
    state = open_state()
    settings, work = config.transformers.policy, window.folder("policy").with_name("policy-training")
    records, held_out = window.hold_out(window.read(config.rolling_window_sessions))
    if window.fresh_after:  # what older ones taught is in the weights that training goes on from
        records = closed_after(records, window.fresh_after)
    require_sessions(records, "to learn from")
    given, earlier = config, None if dataset else find_earlier(window, config, start_from)
    if earlier is not None:
        config = msgspec.structs.replace(config, base_model=str(earlier.folder))
    with state.main_process_first():
        material = read_material(dataset, records, config) if dataset else make_material(window, config, records, work)
    model = build_model(
        config.base_model,
        config.transformers.shape,
        material.tokenizer,
        settings,
        longest=config.transformers.dataset.max_tokens,
        processes=state.num_processes,
    )
    identity = f"{material.identity} {config.base_model} {config.transformers.shape.model_dump_json()}"
    trained = train(
        model,
        material.train,
        settings,
        work,
        material.development_rows,
        identity=identity,
        text_weight=0.0 if earlier is not None else settings.text_weight,  # it has read such text already
    )
    del model
    if not state.is_main_process:
        sys.exit(0)  # choosing and writing is the first process's
    best, judged = choose_candidate(
        trained.candidates,
        lambda each: load_candidate(each, material.tokenizer, config),
        material.development,
        material.dialog,
        config,
    )
    described = msgspec.structs.replace(
        window.describe("policy", given, material.records, material.dialog, find_maker()),
        base=earlier.manifest.base if earlier else digest_base_of(given.base_model),
        trained_until=material.trained_until,
    )
    if earlier is not None:
        since = min(earlier.manifest.trained_since, described.trained_since, key=read_time)
        described = msgspec.structs.replace(described, begun_with=earlier.manifest.digest, trained_since=since)
    manifest = write_candidate(window, described, best.candidate, material.tokenizer, config, work)
    shutil.rmtree(work, ignore_errors=True)
    counted = {
        "sessions": float(len(material.records)),
        "development_sessions": float(len(material.development)),
        "held_out_sessions": float(len(held_out)),
    }
    result = build_result(window, config, manifest, best, judged, trained, counted)
    return msgspec.structs.replace(result, held_out_after=material.records[-1].closed_at)


def make_material(window: Window, config: JobConfig, records: Sequence[SessionRecord], work: Path) -> Material:
    """A data set of `records`, in `work`; one that a killed Job made of the same is taken as it is."""
    folder, settings = work / "dataset", config.transformers
    digest = digest_records(records)
    made = work / "dataset-of"
    shares = f"{config.selection.policy_development_share} {settings.shape.vocabulary}"
    wanted = f"{digest} {settings.dataset.model_dump_json()} {config.base_model} {shares}"
    if not (folder / MANIFEST).exists() or not made.exists() or made.read_text() != wanted:
        work.mkdir(parents=True, exist_ok=True)
        export = work / "sessions.ndjson.gz"
        export.write_bytes(gzip.compress(b"".join(msgspec.json.encode(r) + b"\n" for r in records), 1))
        run_dataset(
            DatasetRequest(
                str(export),
                folder,
                window.process_cluster,
                base=config.base_model,
                vocabulary=settings.shape.vocabulary,
                settings=settings.dataset,
                development_share=config.selection.policy_development_share,
                workers=1,
            )
        )
        export.unlink()
        made.write_text(wanted)
    return read_material(folder, records, config)


def read_material(folder: Path, records: Sequence[SessionRecord], config: JobConfig) -> Material:
    """The data set at `folder`, with those of `records` it was made of.

    It may be written in another format than the configuration's: what is trained is what gateways will write. Raises
    DamagedArtefactError, EvidenceError where it has no development side, InvalidInputError where it is of none of
    `records`, or of another tokenizer.
    """
    made = check_artefact(folder, KIND)
    if made.base != config.base_model:
        raise InvalidInputError(
            f"its tokens are of {made.base or 'a tokenizer of its own'}, not of base model {config.base_model!r}",
            where=f"--dataset {folder}",
            remedy="make it with --tokenizer BASE, or train on that base",
        )
    card = msgspec.json.decode((folder / CARD).read_bytes(), type=Card)
    train_rows, development_rows = read_rows(folder, "train"), read_rows(folder, "development")
    first, last = (read_time(card.splits[s].closed_until) for s in ("train", "development"))
    known = [record for record in records if read_time(record.closed_at) <= last]
    development = [record for record in known if read_time(record.closed_at) > first]
    if not development:
        raise InvalidInputError(
            "none of its development sessions is in the window", where=f"--dataset {folder}", remedy="see --export"
        )
    tokenizer = load_tokenizer(folder / TOKENIZER)
    ends = card.splits["train"].closed_until
    judged = development[-MOST_JUDGED:]
    return Material(train_rows, development_rows, tokenizer, known, judged, ends, made.dialog, card.digest)


def load_candidate(candidate: Candidate, tokenizer: PreTrainedTokenizerFast, config: JobConfig) -> PolicyModel:
    """A candidate as it would be served, on the device there is."""
    return PolicyModel(read_weights(candidate, config, "candidate").to(find_device()), tokenizer)


def read_weights(candidate: Candidate, config: JobConfig, adapter: str) -> Any:
    """The candidate's weights; with adapters, its base with the one called `adapter`."""
    base = config.base_model if config.transformers.policy.lora.rank else ""
    return read_candidate(candidate.folder, base, adapter)


def write_candidate(
    window: Window,
    described: Manifest,
    candidate: Candidate,
    tokenizer: PreTrainedTokenizerFast,
    config: JobConfig,
    work: Path,
) -> Manifest:
    """The artefact of `candidate`, with the settings and figures of its training."""
    extra = {
        TRAINING: config.transformers.model_dump_json(indent=1).encode(),
        METRICS: (work / METRICS).read_bytes(),
    }
    model = read_weights(candidate, config, window.revision)
    return write_transformer(window.folder("policy"), described, model, tokenizer, extra=extra)


def build_result(
    window: Window,
    config: JobConfig,
    manifest: Manifest,
    best: JudgedCandidate,
    judged: Sequence[JudgedCandidate],
    trained: Trained,
    counted: dict[str, float],
) -> JobResult:
    """What the Job came to. The metrics' keys are those of the counts' policy, and some more."""
    metrics = best.accuracy.metrics()
    reached = metrics["action_accuracy"]
    passed = reached >= config.min_action_accuracy
    others = {f"{name}:{each.candidate.step}": value for each in judged for name, value in each.metrics().items()}
    tell(f"batch {best.candidate.step} of {trained.steps} is served")
    return JobResult(
        phase="policy",
        revision=window.revision,
        passed=passed,
        reason=f"action accuracy {reached:.3f} {'reaches' if passed else 'is below'} {config.min_action_accuracy:g} "
        f"on {counted['development_sessions']:.0f} development sessions; batch {best.candidate.step} of "
        f"{trained.steps}, coverage {best.coverage:.3f} at precision {config.precision_target:g}",
        digests={"policy": manifest.digest, **build_digests(manifest)},
        metrics={
            **counted,
            **metrics,
            "coverage_at_target": best.coverage,
            "critical_proposals": float(best.critical),
            "step": float(best.candidate.step),
            "steps": float(trained.steps),
            "tokens": float(trained.tokens),
            "training_seconds": trained.seconds,
            **others,
        },
        dialog=manifest.dialog,
    )
