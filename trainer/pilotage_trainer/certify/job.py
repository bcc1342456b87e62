"""The calibration Job: held-out sessions, the served models' scores, certificates.

Not here: the command line (commands/certify.py), labels and the test (held_out.py, pilotage_core.calibration).
"""

from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec

from pilotage_core.calibration import TauResult
from pilotage_core.certificate import EvidenceDigests
from pilotage_core.record import SessionRecord
from pilotage_core.score import format_score
from pilotage_core.wire import JobResult
from pilotage_trainer.artefact import Maker, Manifest, check_artefact, digest_bytes, write_artefact
from pilotage_trainer.backends import vllm
from pilotage_trainer.backends.open import open_critic, open_policy, read_score_card
from pilotage_trainer.certify.held_out import (
    ScoredLabel,
    build_certificates,
    build_curve,
    calibrate_strata,
    explain_results,
    find_least_propensities,
    require_unseen,
    score_sessions,
)
from pilotage_trainer.certify.joint import choose_least_tau, find_spoilt
from pilotage_trainer.certify.scorers import InProcess, Scorer, ServedPair
from pilotage_trainer.config import JobConfig
from pilotage_trainer.failures import DamagedArtefactError
from pilotage_trainer.results import tell
from pilotage_trainer.sessions.export import closed_after
from pilotage_trainer.window import Window, build_digests

CURVES = "risk_coverage.json"


def run_certify(window: Window, config: JobConfig, urls: tuple[str, str] | None, issued_at: str) -> JobResult:
    """Certify what held-out labels allow. `urls` of policy and critic as served; None scores in this process.

    Raises InvalidInputError where held-out sessions were learned from, DamagedArtefactError where the servers hold
    other artefacts than the revision's, UnavailableError where they do not answer.
    """
    policy, critic = (
        check_artefact(window.folder("policy"), "policy"),
        check_artefact(window.folder("critic"), "critic"),
    )
    window.require_own(policy)
    window.require_own(critic)
    card = read_score_card(window.folder("critic"))
    held_out_after = window.held_out_after or critic.trained_until
    require_unseen(held_out_after, policy, critic)
    records = closed_after(window.read(since=held_out_after), held_out_after)
    scorer = _load(window) if urls is None else _connect(urls, policy, critic)
    labels = score_sessions(records, policy, scorer, config, card.rule)
    least = find_least_propensities(records, policy.digest)
    results = calibrate_strata(labels, config, least, _choose_least_tau(records, labels, policy, config))
    certificates = build_certificates(
        results,
        labels,
        process_cluster=window.process_cluster,
        score_from=card.source,
        digests=_build_evidence(labels, policy, critic, config),
        issued_at=issued_at,
    )
    maker = Maker(policy.backend, policy.code)
    described = window.describe("calibration", config, records, policy.dialog, maker, policy, critic)
    manifest = write_artefact(window.folder("calibration"), described, {CURVES: _draw_curves(labels, results, config)})
    return JobResult(
        phase="calibrate",
        revision=window.revision,
        passed=bool(certificates),
        reason=explain_results(results, card.source),
        digests={"policy": policy.digest, "critic": critic.digest, **build_digests(manifest)},
        metrics={"held_out_sessions": float(len(records)), **_measure_strata(labels, results)},
        certificates=certificates,
        held_out_after=held_out_after,
    )


def _choose_least_tau(
    records: Sequence[SessionRecord], labels: Sequence[ScoredLabel], policy: Manifest, config: JobConfig
) -> float:
    """What whole sessions need of every stratum, where they are to end by themselves; else nothing."""
    if not config.session_target:
        return 0.0
    spoilt = find_spoilt(records, policy.digest)
    names = [stratum.name for stratum in config.strata]
    tau = choose_least_tau(labels, spoilt, names, config.session_target, config.spoilt_end_wrong)
    tell(f"whole sessions need a score of at least {format_score(tau)}")
    return tau


def _load(window: Window) -> Scorer:
    """The pair in this process: only here are the models themselves needed."""
    return InProcess(open_policy(window.folder("policy")), open_critic(window.folder("critic")))


def _connect(urls: tuple[str, str], policy: Manifest, critic: Manifest) -> ServedPair:
    """The served pair, once it is known to be this one."""
    served = ServedPair(*urls)
    told = served.read_digests()
    for name, wanted in ((vllm.POLICY, policy.digest), (vllm.CRITIC, critic.digest)):
        if told.get(name) != wanted:
            raise DamagedArtefactError(
                f"serves {name} {told.get(name, 'none')}, not {wanted}",
                where=" and ".join(dict.fromkeys(urls)),
                remedy="wait until the new revision is served",
            )
    return served


def _build_evidence(
    labels: Sequence[ScoredLabel], policy: Manifest, critic: Manifest, config: JobConfig
) -> EvidenceDigests:
    return EvidenceDigests(
        data=digest_bytes(msgspec.json.encode(labels)),
        policy=policy.digest,
        critic=critic.digest,
        prompt_format=policy.prompt_format,
        actions=config.evidence.actions,
        screens=config.evidence.screens,
        serving_image=config.evidence.serving_image,
    )


def _draw_curves(labels: Sequence[ScoredLabel], results: Mapping[str, TauResult], config: JobConfig) -> bytes:
    """Curves of every stratum that has labels, certified or not."""
    targets = {wanted.name: wanted.target or config.precision_target for wanted in config.strata}
    strata = {
        stratum: build_curve(
            [label for label in labels if label.stratum == stratum],
            results.get(stratum),
            targets.get(stratum, config.precision_target),
        )
        for stratum in sorted({label.stratum for label in labels})
    }
    return msgspec.json.encode({"strata": strata})


def _measure_strata(labels: Sequence[ScoredLabel], results: Mapping[str, TauResult]) -> dict[str, float]:
    counts = Counter(label.stratum for label in labels)
    accepted = Counter(label.stratum for label in labels if label.accepted)
    metrics = {"labels": float(len(labels)), "live_labels": float(sum(label.live for label in labels))}
    for stratum in sorted({*counts, *results}):
        metrics[f"n:{stratum}"] = float(counts[stratum])
        metrics[f"accept_rate:{stratum}"] = accepted[stratum] / counts[stratum] if counts[stratum] else 0.0
        if stratum in results:
            metrics[f"coverage:{stratum}"] = results[stratum].coverage
    return metrics
