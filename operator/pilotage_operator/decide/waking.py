"""When a process cluster has to be decided again though nothing happened to it: time alone changes some things.

A decision is a function of manifests, status, facts and the time. Between two changes of the others its outcome changes
only at the moments named here; tests/unit/operator_/test_waking.py searches for one that is not.
"""

import zlib
from collections.abc import Iterator, Mapping
from typing import Any

from pilotage_operator.api.pipeline import Phase, PhaseState
from pilotage_operator.api.status import ProcessClusterStatus, read_time
from pilotage_operator.decide.pipeline import JOB_WANTED, SETTLING_SECONDS
from pilotage_operator.decide.stages import ENDPOINT_GRACE_SECONDS, FLAP_WINDOW_SECONDS
from pilotage_operator.decide.summary import STALLED_AFTER_SECONDS
from pilotage_operator.facts import Bundle, EndpointFact

JOB_SECONDS = 10.0
"""How often a Job that is waited for is looked at: one that gets no pod tells nobody."""
ANYWAY_SECONDS = 600.0
"""After so long, give or take half of it, everything is decided once more: whatever was overlooked lasts no longer."""
MARGIN_SECONDS = 0.01
"""Some limits are reached when a time has passed, not when it comes."""


def find_wake(bundle: Bundle, status: ProcessClusterStatus, endpoints: Mapping[str, EndpointFact], now: float) -> float:
    """The next moment (seconds since the epoch) at which a decision after `status` may come out differently."""
    moments = (at + MARGIN_SECONDS for at in _list_moments(bundle, status, endpoints, now))
    spread = 0.5 + zlib.crc32(bundle.key.encode()) / 2**32  # not all of a fleet that was seen first at once
    return min([now + spread * ANYWAY_SECONDS, *(at for at in moments if at > now)])


def _list_moments(
    bundle: Bundle, status: ProcessClusterStatus, endpoints: Mapping[str, EndpointFact], now: float
) -> Iterator[float]:
    gate, pipeline = bundle.gate, status.pipeline
    cycle = bundle.cluster.supervision.minimum_cycle_seconds
    yield read_time(status.first_seen) + cycle
    for at in status.rollbacks:
        yield read_time(at) + FLAP_WINDOW_SECONDS
    if status.rollback is not None:
        yield read_time(status.rollback.at) + gate.rollback.cooldown_seconds
    for guardrail, reading in zip(gate.guardrails, status.guardrails, strict=False):
        if reading.breached_since:
            yield read_time(reading.breached_since) + guardrail.for_seconds
            yield read_time(reading.since) + guardrail.window_seconds
        if reading.missing_since:
            yield read_time(reading.missing_since) + guardrail.grace_seconds
    for fact in endpoints.values():
        if not fact.ready:
            yield fact.since + ENDPOINT_GRACE_SECONDS
    for retiring in status.retiring:
        yield read_time(retiring.until)
    if pipeline is not None:
        since = read_time(pipeline.since)
        yield read_time(pipeline.retry_at)
        match pipeline.phase:
            case Phase.DEMONSTRATIONS:
                yield since + cycle
            case Phase.CERTIFIED if pipeline.state is not PhaseState.DONE:
                yield since + SETTLING_SECONDS
            case Phase.POLICY_ENDPOINT | Phase.CRITIC_ENDPOINT:
                yield since + STALLED_AFTER_SECONDS
        if pipeline.state in JOB_WANTED:
            yield now + JOB_SECONDS


def without_counts(document: Mapping[str, Any]) -> dict[str, Any]:
    """Status (as JSON) without what merely counts: what is left changes only when something happens."""
    pipeline: dict[str, Any] = document.get("pipeline") or {}
    counting = ("supervision", "unmet", "metrics", "permitEpoch", "sessions")
    return {name: value for name, value in document.items() if name not in counting} | {
        "pipeline": {name: value for name, value in pipeline.items() if name != "reason"},
        "guardrails": [(g["name"], g["verdict"]) for g in document.get("guardrails", [])],
        "conditions": [(c["type"], c["status"], c["reason"]) for c in document.get("conditions", [])],
    }
