"""What a manifest would make of a process cluster now, by the function that will decide it. Pure.

Assumed is what a manifest does not change: model servers answer, permits are signed, guardrails read as they did last.
"""

from dataclasses import dataclass

from pilotage_core.guardrail import GuardrailVerdict, Reading
from pilotage_core.stage import Need, Stage
from pilotage_operator.api.certificates import decode_certificates
from pilotage_operator.api.status import ProcessClusterStatus, UnmetStatus
from pilotage_operator.decide.evidence import find_void
from pilotage_operator.decide.lifecycle import decide_lifecycle
from pilotage_operator.facts import Bundle, EndpointFact, Facts, JobFact, JobState

UNKNOWN_HERE = frozenset({Need.NO_ALARM, Need.FRESH_PRECISION})
"""They rest on labels, which only the leader follows."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """Where a process cluster would be: its stage, what holds it, why certificates would be void, which τ stand."""

    stage: Stage
    earned: Stage
    held_by: str
    void: str
    tau: str
    unmet: tuple[UnmetStatus, ...]


def preview(bundle: Bundle, status: ProcessClusterStatus, now: float) -> Outlook:
    """One decision about `bundle` from `status`, as it would be made at `now` (seconds since the epoch)."""
    decision = decide_lifecycle(bundle, status, _assume(status, now), now)
    then = decision.status
    return Outlook(
        stage=then.stage,
        earned=then.earned,
        held_by=then.held_by,
        void=find_void(bundle, then.pair, decode_certificates(status.certificates)),
        tau=then.tau_summary,
        unmet=tuple(each for each in then.unmet if each.condition not in UNKNOWN_HERE),
    )


def find_serving_image(status: ProcessClusterStatus) -> str:
    """What its certificates say that model servers run; empty where it has none."""
    found = decode_certificates(status.certificates)
    return found[0].digests.serving_image if found else ""


def _assume(status: ProcessClusterStatus, now: float) -> Facts:
    pairs = [pair for pair in (status.pair, status.candidate) if pair is not None]
    names = {name for pair in pairs for name in (pair.policy_endpoint, pair.critic_endpoint) if name}
    return Facts(
        readings=_read_guardrails(status),
        endpoints={name: EndpointFact(True, "", "", now) for name in names},
        jobs={status.pipeline.job: JobFact(JobState.RUNNING)} if status.pipeline and status.pipeline.job else {},
        permit_epoch=status.permit_epoch,
    )


def _read_guardrails(status: ProcessClusterStatus) -> dict[str, Reading]:
    return {
        reading.name: Reading(float(reading.value), reading.samples)
        for reading in status.guardrails
        if reading.value is not None and reading.verdict is not GuardrailVerdict.MISSING
    }
