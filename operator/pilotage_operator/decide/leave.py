"""What a process cluster may do, as gateways are told: its Leave."""

from typing import Any

import msgspec

from pilotage_core.certificate import Certificate
from pilotage_core.stage import UNATTENDED, Stage
from pilotage_core.wire import Leave, PairRef, Revocation
from pilotage_operator.api.automation_gate import FinalizationMode
from pilotage_operator.api.process_cluster import ProcessClusterSpec
from pilotage_operator.api.reading import read_spec
from pilotage_operator.api.rules import build_action_rules, build_selector
from pilotage_operator.api.status import PairStatus
from pilotage_operator.facts import Bundle


def build_leave(
    bundle: Bundle,
    stage: Stage,
    pair: PairStatus | None,
    certificates: tuple[Certificate, ...],
    *,
    finalizing_by_human: bool,
    audits_all: bool,
    revoked: Revocation | None = None,
) -> Leave:
    """What `bundle`'s process cluster may do in `stage`. Certificates are given only where they may be used."""
    spec = bundle.cluster
    return Leave(
        name=bundle.name,
        namespace=bundle.namespace,
        stage=stage,
        selector=build_selector(spec),
        priority=spec.priority,
        pair=None if pair is None or stage is Stage.LOGGING else build_pair_ref(pair),
        certificates={c.stratum: c for c in certificates} if stage in UNATTENDED else {},
        rules=build_action_rules(spec),
        finalizing_by_human=finalizing_by_human,
        audit_share=1.0 if audits_all else float(bundle.gate.calibration.audit_share),
        suspended=spec.suspend,
        screens=bundle.screens,
        review_share=float(bundle.gate.finalization.review_share),
        whole_sessions=bundle.gate.finalization.mode is FinalizationMode.AUTO,
        always_calibrating=float(bundle.gate.calibration.always_calibrating),
        revoked=revoked,
    )


def build_watching_leave(cluster: dict[str, Any]) -> Leave:
    """The leave of a process cluster that names something that is not there: it only watches. Raises what reading it
    raises.
    """
    spec, _ = read_spec(ProcessClusterSpec, cluster["spec"], "ProcessCluster")
    metadata = cluster["metadata"]
    return Leave(
        name=metadata["name"],
        namespace=metadata["namespace"],
        stage=Stage.LOGGING,
        selector=build_selector(spec),
        priority=spec.priority,
        rules=build_action_rules(spec),
        suspended=spec.suspend,
    )


def build_quarantined_leave(held: Leave) -> Leave:
    """What a process cluster may do while something of it fails: at most Copilot, by the last rules that were whole."""
    return msgspec.structs.replace(
        held, stage=min(held.stage, Stage.COPILOT, key=lambda stage: stage.rank), certificates={}
    )


def build_pair_ref(pair: PairStatus) -> PairRef:
    """A pair as gateways know it."""
    return PairRef(
        revision=pair.revision,
        policy_digest=pair.policy_digest,
        critic_digest=pair.critic_digest,
        policy_url=pair.policy_url,
        critic_url=pair.critic_url,
        dialog=pair.dialog.form,
        score=pair.score.rule,
    )
