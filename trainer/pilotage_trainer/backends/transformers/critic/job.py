"""The critic Job of transformers: labels for the revision's policy, a critic from its weights, and which is the score.

Only sessions that the policy has not learned from give labels (docs/decisions/020). Every process of several
runs this; the first judges, compares and writes. Not here: the command line (commands/), labels (data.py), fitting
and comparing (fit.py).
"""

import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from pilotage_core.certificate import ScoreSource
from pilotage_core.record import SessionRecord
from pilotage_core.wire import JobResult
from pilotage_trainer.artefact import Manifest, check_artefact, digest_bytes
from pilotage_trainer.backends.interface import CRITIC_FILE
from pilotage_trainer.backends.transformers import find_maker
from pilotage_trainer.backends.transformers.asking.critic_card import SERVED_BY_US
from pilotage_trainer.backends.transformers.asking.export import TRAINING, write_transformer
from pilotage_trainer.backends.transformers.asking.inference import PolicyModel, find_device
from pilotage_trainer.backends.transformers.critic.data import Judging, judge_sessions, require_labels
from pilotage_trainer.backends.transformers.critic.fit import Fitted, fit_better
from pilotage_trainer.backends.transformers.rows.tokenizer import load_tokenizer
from pilotage_trainer.backends.transformers.training.metrics_file import METRICS
from pilotage_trainer.backends.transformers.training.processes import open_state
from pilotage_trainer.config import JobConfig, encode_config
from pilotage_trainer.sessions.export import closed_after
from pilotage_trainer.window import Window, build_digests, digest_records

LABELS = "labels.msgpack"


class Kept(msgspec.Struct):
    """Labels as they are kept in the work folder."""

    identity: str
    judging: Judging


def run_critic(window: Window, config: JobConfig) -> JobResult:
    """Train a critic for the revision's policy on sessions that are not held out and that the policy has not seen.

    Raises EvidenceError where there is too little, OneClassError, DamagedArtefactError where the policy cannot be
    loaded, SplitLabelError, NotANumberError, WorkerDiedError, OSError.
    """
    state = open_state()
    folder, work = window.folder("policy"), window.folder("critic").with_name("critic-training")
    made, training = check_artefact(folder, "policy"), config.transformers.critic
    window.require_own(made)
    newer, held_out = window.hold_out(closed_after(window.read(since=made.trained_until), made.trained_until))
    identity = f"{made.digest} {digest_records(newer)} {digest_bytes(encode_config(config))}"
    with state.main_process_first():
        judging = judge_once(work, identity, folder, newer, config)
    require_labels(judging.labels, config.selection.least_labels)
    fitted = fit_better(
        lambda: PolicyModel.load(folder, find_device()),
        judging.labels,
        training,
        config.selection,
        work,
        identity,
        config.precision_target,
    )
    if not state.is_main_process:
        sys.exit(0)  # writing is the first process's
    tokenizer = load_tokenizer(folder)
    described = window.describe("critic", config, newer, made.dialog, find_maker(), policy=made)
    files = {CRITIC_FILE: msgspec.json.encode(fitted.card), TRAINING: training.model_dump_json(indent=1).encode()}
    files |= _read_figures(work)
    if fitted.card.rates is not None:
        files["config.json"] = build_refused_config(fitted)
    manifest = write_transformer(
        window.folder("critic"),
        msgspec.structs.replace(described, base=made.base),
        fitted.model,
        tokenizer,
        extra=files,
    )
    shutil.rmtree(work, ignore_errors=True)
    return build_result(window, manifest, judging, fitted, newer, held_out)


def judge_once(work: Path, identity: str, folder: Path, newer: Sequence[SessionRecord], config: JobConfig) -> Judging:
    """Labels of `newer`; those that another process, or a Job that was killed, has left in `work` are taken."""
    path = work / LABELS
    try:
        kept = msgspec.msgpack.decode(path.read_bytes(), type=Kept)
        if kept.identity == identity:
            return kept.judging
    except (FileNotFoundError, msgspec.DecodeError):
        pass  # none, or a half of one: judge
    policy = PolicyModel.load(folder, find_device())
    judging = judge_sessions(newer, policy, config.rules, config.transformers.critic)
    work.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".part").write_bytes(msgspec.msgpack.encode(Kept(identity, judging)))
    path.with_suffix(".part").replace(path)
    return judging


def build_refused_config(fitted: Fitted) -> bytes:
    """The model's config.json with an architecture that vLLM refuses: it would answer something else than the score."""
    told = json.loads(fitted.model.config.to_json_string())
    return json.dumps({**told, "architectures": [SERVED_BY_US]}, indent=2).encode()


def build_result(
    window: Window,
    manifest: Manifest,
    judging: Judging,
    fitted: Fitted,
    newer: Sequence[SessionRecord],
    held_out: Sequence[SessionRecord],
) -> JobResult:
    """What the Job came to. The metrics' keys are those of the counts' critic, and some more."""
    labels, compared = judging.labels, fitted.compared
    return JobResult(
        phase="critic",
        revision=window.revision,
        passed=True,
        reason=explain(fitted),
        digests={"critic": manifest.digest, "policy": manifest.policy, **build_digests(manifest)},
        metrics={
            "sessions": float(len(newer)),
            "held_out_sessions": float(len(held_out)),
            "labels": float(len(labels)),
            "live_labels": float(sum(label.live for label in labels)),
            "unreadable": float(judging.unreadable),
            "accept_rate": sum(label.accepted for label in labels) / len(labels),
            "auroc": compared.auroc,
            "confidence_auroc": compared.confidence_auroc,
            "share_better": compared.share_better,
            "beats_confidence": float(fitted.card.source is not ScoreSource.CONFIDENCE),
            "step": float(fitted.step),
            **{f"confidence_auroc:{measure}": auroc for measure, auroc in fitted.measures.items()},
            **fitted.figures,
        },
        held_out_after=manifest.trained_until,
        score=fitted.card.rule,
    )


def explain(fitted: Fitted) -> str:
    """In plain words, what the score is and why."""
    compared = fitted.compared
    told = (
        f"the score is the {fitted.card.source.words}: AUROC {compared.auroc:.3f} with the critic, "
        f"{compared.confidence_auroc:.3f} of confidence alone, better in {compared.share_better:.1%} of draws over "
        f"{compared.labels} labels"
    )
    if fitted.card.rates is None:
        return told
    return f"{told}; only pilotage-serve tells acceptance rates, vLLM refuses the artefact"


def _read_figures(work: Path) -> dict[str, bytes]:
    path = work / METRICS
    return {METRICS: path.read_bytes()} if path.exists() else {}
