"""What happened to a process cluster between two statuses, for `kubectl describe`. Pure; no decision rests on it."""

from collections.abc import Iterator
from dataclasses import dataclass

from pilotage_core.guardrail import GuardrailVerdict
from pilotage_core.stage import Cap
from pilotage_operator.api.pipeline import PhaseState
from pilotage_operator.api.status import ProcessClusterStatus

OF_ITS_OWN = frozenset({Cap.SUSPENDED, Cap.ENDPOINT_DOWN, Cap.CERTIFICATE_VOID})
"""Caps with a cause in one process cluster. The others hold a whole fleet: one page tells of those, no event each."""
TROUBLES = {
    PhaseState.FAILED: "JobFailed",
    PhaseState.STALLED: "JobStalled",
    PhaseState.REFUSED: "JobRefused",
}


@dataclass(frozen=True, slots=True)
class Happening:
    """One thing that happened: a reason that stands for its kind, and the words."""

    reason: str
    message: str
    is_warning: bool = False


def list_happenings(before: ProcessClusterStatus, after: ProcessClusterStatus) -> tuple[Happening, ...]:
    """What is to be told of the step from `before` to `after`, in the order of its weight."""
    return (
        *_of_rollback(before, after),
        *_of_stage(before, after),
        *_of_guardrails(before, after),
        *_of_caps(before, after),
        *_of_making(before, after),
    )


def _of_rollback(before: ProcessClusterStatus, after: ProcessClusterStatus) -> Iterator[Happening]:
    old, new = before.rollback, after.rollback
    if new is None:
        return
    if old is None or old.id != new.id:
        told = f"{before.stage} → {after.stage}, {new.id}: {new.reason}"
        yield Happening("RolledBack", told, is_warning=True)
        return
    if new.acknowledged and not old.acknowledged:
        yield Happening("RollbackAcknowledged", f"a person has understood {new.id}")
    if old.latched and not new.latched:
        yield Happening("LatchLifted", f"{new.id} holds no more")


def _of_stage(before: ProcessClusterStatus, after: ProcessClusterStatus) -> Iterator[Happening]:
    if after.earned.rank > before.earned.rank:
        why = after.transitions[-1].reason if after.transitions else ""
        yield Happening("Promoted", f"{before.earned} → {after.earned}: {why}")
    if (before.ends, after.ends) == ("Human", "Model"):
        yield Happening("EndingsCertified", "the model ends sessions, but for a share that people review")
    if (before.ends, after.ends) == ("Model", "Human"):
        yield Happening("EndingsTakenBack", "people end all sessions", is_warning=True)


def _of_guardrails(before: ProcessClusterStatus, after: ProcessClusterStatus) -> Iterator[Happening]:
    old = {reading.name: reading.verdict for reading in before.guardrails}
    for reading in after.guardrails:
        if reading.verdict is GuardrailVerdict.BREACHED and old.get(reading.name) is not GuardrailVerdict.BREACHED:
            reason = "GuardrailBreachedDryRun" if reading.dry_run else "GuardrailBreached"
            yield Happening(reason, f"{reading.name}: {reading.detail}", is_warning=not reading.dry_run)
    for stratum in sorted(set(after.tightened) - set(before.tightened)):
        yield Happening("TauTightened", f"{stratum}: labels speak against its certificate", is_warning=True)


def _of_caps(before: ProcessClusterStatus, after: ProcessClusterStatus) -> Iterator[Happening]:
    if before.held_by == after.held_by:
        return
    if after.held_by in OF_ITS_OWN:
        told = f"held at {after.stage}, {after.earned} is earned; it lifts by itself"
        yield Happening(after.held_by, told, is_warning=after.held_by != Cap.SUSPENDED)
    elif before.held_by in OF_ITS_OWN and not after.held_by:
        yield Happening("CapLifted", f"{before.held_by} holds no more")


def _of_making(before: ProcessClusterStatus, after: ProcessClusterStatus) -> Iterator[Happening]:
    old, new = before.pipeline, after.pipeline
    if new is None:
        return
    told = f"{new.revision}, {new.phase}: {new.reason}"
    if new.state in TROUBLES and (old is None or (old.state, old.job) != (new.state, new.job)):
        yield Happening(TROUBLES[new.state], told, is_warning=True)
    elif new.state is PhaseState.RUNNING and (old is None or old.job != new.job):
        yield Happening("JobStarted", f"{new.revision}, {new.phase}: {new.job}")
    if (
        old is not None
        and new.last_outcome
        and new.last_outcome != old.last_outcome
        and after.rollback == before.rollback
    ):
        yield Happening("NotGoodEnough", f"{new.revision}: {new.last_outcome}")
    revisions = [status.pair.revision if status.pair else "" for status in (before, after)]
    if revisions[0] != revisions[1]:
        what = f"{revisions[1]} in the place of {revisions[0]}" if revisions[0] else revisions[1]
        yield Happening("PairSwitched", what)
    if after.certificates and after.certificates != before.certificates:
        yield Happening("Certified", f"{', '.join(sorted(after.tau))}: {after.tau_summary or 'no τ in force'}")
