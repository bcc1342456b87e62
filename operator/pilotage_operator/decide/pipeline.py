"""The making of a pair, phase by phase: which Job runs next, on which sessions, and when its outcome is served.

First climb:     Demonstrations → Policy → PolicyEndpoint → Feedback → Critic → CriticEndpoint → Calibrate → Certified
After a rollback:         Fresh → Policy → PolicyEndpoint →            Critic → CriticEndpoint → Calibrate → Certified

One call moves at most one phase. An endpoint is named as the Job that made what it serves. A Job that fails is tried
again later under a new name, as often as its exit code allows; one whose outcome is not good enough waits for more
sessions first. Which stage all this earns is stages.py's; nothing here flips one.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import msgspec

from pilotage_core.certificate import Certificate
from pilotage_core.job_exit import Remedy, count_tries, explain_exit, find_remedy
from pilotage_core.wire import JobResult
from pilotage_operator.api.pipeline import Phase, PhaseState, Pipeline
from pilotage_operator.api.status import Baseline, DialogStatus, PairStatus, ScoreStatus, read_time, write_time
from pilotage_operator.decide.evidence import find_void
from pilotage_operator.facts import Bundle, CounterFacts, Facts, JobFact, JobPhase, JobState, PairCounts, WantedJob

FIRST_BACKOFF_SECONDS, LONGEST_BACKOFF_SECONDS = 10.0, 600.0
SETTLING_SECONDS = 30.0
"""From a changed digest to a new calibration: model servers of another image have to come up first."""
DONE = PhaseState.DONE
JOB_WANTED = (PhaseState.RUNNING, PhaseState.REFUSED)
JOB_PHASES = {Phase.POLICY: JobPhase.POLICY, Phase.CRITIC: JobPhase.CRITIC, Phase.CALIBRATE: JobPhase.CALIBRATE}


@dataclass(frozen=True, slots=True)
class Making:
    """The pipeline with what it has made so far. `candidate` is the pair in the making, `pair` the current one."""

    pipeline: Pipeline
    baseline: Baseline
    pair: PairStatus | None = None
    candidate: PairStatus | None = None
    certificates: tuple[Certificate, ...] = ()
    certified_after: str = ""
    metrics: dict[str, float] | None = None


def start_making(now: float) -> Making:
    """The pipeline of a process cluster seen for the first time."""
    pipeline = Pipeline(revision="r1", phase=Phase.DEMONSTRATIONS, state=PhaseState.WAITING, since=write_time(now))
    return Making(pipeline=pipeline, baseline=Baseline())


def restart_making(making: Making, counts: CounterFacts, rolled_back_at: str, now: float) -> Making:
    """After a rollback: the next revision, from sessions newer than it."""
    pipeline = Pipeline(
        revision=next_revision(making.pipeline.revision),
        phase=Phase.FRESH,
        state=PhaseState.WAITING,
        since=write_time(now),
        calibrations=making.pipeline.calibrations,
        fresh_after=rolled_back_at,
        last_outcome="rolled back",
    )
    baseline = making.baseline.model_copy(update={"sessions": counts.sessions})
    return replace(making, pipeline=pipeline, baseline=baseline, candidate=None)


def next_revision(revision: str) -> str:
    """r1 → r2."""
    return f"r{int(revision[1:]) + 1}"


def decide_making(bundle: Bundle, making: Making, counts: CounterFacts, facts: Facts, now: float) -> Making:
    """One step of the pipeline: `making` as it should be now."""
    return STEPS[making.pipeline.phase](bundle, making, counts, facts, now)


def wanted_job(bundle: Bundle, making: Making) -> WantedJob | None:
    """The Job of the phase the pipeline is in; None where the phase has none or its Job is not to run now."""
    pipeline = making.pipeline
    phase = JOB_PHASES.get(pipeline.phase)
    if phase is None or pipeline.state not in JOB_WANTED:
        return None
    pair = making.candidate or making.pair
    recovering = bool(pipeline.fresh_after)
    held_out = bundle.gate.calibration.held_out_share if recovering or phase is JobPhase.CRITIC else "0"
    return WantedJob(
        name=pipeline.job,
        phase=phase,
        revision=_revision_of(making, pipeline.phase),
        since=pipeline.window_since,
        until=pipeline.window_until,
        fresh_after=pipeline.fresh_after,
        start_from=making.pair.revision if recovering and making.pair else "",
        held_out_after=pipeline.held_out_after,
        held_out_share=held_out,
        policy_url=pair.policy_url if pair else "",
        critic_url=pair.critic_url if pair else "",
        policy_digest=pair.policy_digest if pair else "",
        calibration=pipeline.calibrations + 1,
    )


# --- waiting for people's work ---------------------------------------------------------------------------------------
def _wait_for_demonstrations(bundle: Bundle, making: Making, counts: CounterFacts, facts: Facts, now: float) -> Making:
    supervision = bundle.cluster.supervision
    if counts.demonstrations < supervision.min_demonstrations:
        return _waiting(making, f"{counts.demonstrations} of {supervision.min_demonstrations} demonstrations")
    seen_for = now - read_time(making.pipeline.since)
    if making.pipeline.attempt == 1 and seen_for < supervision.minimum_cycle_seconds:
        until = write_time(read_time(making.pipeline.since) + supervision.minimum_cycle_seconds)
        return _waiting(making, f"demonstrations until {until}")
    if making.pipeline.attempt > 1 and not _has_fresh(bundle, making, counts):
        return _waiting(making, _fresh_text(bundle, making, counts))
    return _start_job(bundle, making, Phase.POLICY, now, since="")


def _wait_for_feedback(bundle: Bundle, making: Making, counts: CounterFacts, facts: Facts, now: float) -> Making:
    wanted = bundle.cluster.supervision.min_feedback
    if counts.feedback_sessions < wanted:
        return _waiting(making, f"{counts.feedback_sessions} of {wanted} sessions with feedback")
    if making.pipeline.attempt > 1 and not _has_fresh(bundle, making, counts):
        return _waiting(making, _fresh_text(bundle, making, counts))
    return _start_job(bundle, making, Phase.CRITIC, now, since=making.pipeline.window_since)


def _wait_for_fresh(bundle: Bundle, making: Making, counts: CounterFacts, facts: Facts, now: float) -> Making:
    if not _has_fresh(bundle, making, counts):
        return _waiting(making, _fresh_text(bundle, making, counts))
    return _start_job(bundle, making, Phase.POLICY, now, since="")


def _has_fresh(bundle: Bundle, making: Making, counts: CounterFacts) -> bool:
    return counts.sessions - making.baseline.sessions >= bundle.cluster.supervision.min_fresh


def _fresh_text(bundle: Bundle, making: Making, counts: CounterFacts) -> str:
    have, wanted = counts.sessions - making.baseline.sessions, bundle.cluster.supervision.min_fresh
    return f"{have} of {wanted} fresh sessions"


# --- Jobs ------------------------------------------------------------------------------------------------------------
def _watch_job(bundle: Bundle, making: Making, counts: CounterFacts, facts: Facts, now: float) -> Making:
    pipeline = making.pipeline
    if pipeline.state is PhaseState.STALLED:
        if pipeline.stalled_at == _fingerprint(bundle):
            return making
        mended = replace(making, pipeline=pipeline.model_copy(update={"failures": 0, "stalled_at": ""}))
        return _start_job(bundle, _next_attempt(mended), pipeline.phase, now, since=pipeline.window_since)
    if pipeline.state is PhaseState.FAILED:
        if now < read_time(pipeline.retry_at):
            return making
        return _start_job(bundle, _next_attempt(making), pipeline.phase, now, since=pipeline.window_since)
    job = facts.jobs.get(pipeline.job)
    if job is None:
        return making
    if job.state in (JobState.RUNNING, JobState.REFUSED):
        state = PhaseState.REFUSED if job.state is JobState.REFUSED else PhaseState.RUNNING
        return replace(making, pipeline=pipeline.model_copy(update={"state": state, "reason": job.reason}))
    if job.state is JobState.FAILED or job.result is None:
        return _on_failed_job(bundle, making, counts, job, now)
    if pipeline.phase is Phase.CALIBRATE:
        making = _enter_attempt(making)
    if not job.result.passed:
        told = replace(making, metrics=_with_metrics(making, JOB_PHASES[pipeline.phase], job.result))
        return _wait_for_more(told, counts, job.result.reason or "evaluation not passed", now)
    return ON_PASSED[pipeline.phase](making, counts, job.result, now)


def _on_failed_job(bundle: Bundle, making: Making, counts: CounterFacts, job: JobFact, now: float) -> Making:
    """Wait for data, try again later, or stop until somebody changes something: as the exit code says (job_exit.py)."""
    code = None if job.state is JobState.SUCCEEDED else job.exit_code
    reason = job.reason or ("no result" if job.state is JobState.SUCCEEDED else explain_exit(code))
    remedy = find_remedy(code)
    if remedy is Remedy.MORE_DATA:
        return _wait_for_more(making, counts, reason, now)
    failures = making.pipeline.failures + (remedy is not Remedy.PREEMPTED)
    told = f"Job {making.pipeline.job} failed: {reason}"
    if remedy is Remedy.A_PERSON or failures >= max(count_tries(code), 1):
        why = "another try would end the same" if remedy is Remedy.A_PERSON else f"{failures} tries in a row"
        update = {"state": PhaseState.STALLED, "failures": failures, "stalled_at": _fingerprint(bundle),
                  "reason": f"{told} ({why}: change what it says)"}  # fmt: skip
        return replace(making, pipeline=making.pipeline.model_copy(update=update))
    backoff = min(FIRST_BACKOFF_SECONDS * 2 ** max(failures - 1, 0), LONGEST_BACKOFF_SECONDS)
    update = {
        "state": PhaseState.FAILED,
        "failures": failures,
        "retry_at": write_time(now + backoff),
        "reason": told,
    }
    return replace(making, pipeline=making.pipeline.model_copy(update=update))


def _fingerprint(bundle: Bundle) -> str:
    """What people can change to mend a Job that stalled: manifests and image. Another one is another try."""
    said = (bundle.cluster.to_json(), bundle.policy_critic.to_json(), bundle.gate.to_json(), bundle.serving_image)
    return hashlib.blake2b(msgspec.json.encode(said, order="deterministic"), digest_size=8).hexdigest()


def _on_policy(making: Making, counts: CounterFacts, result: JobResult, now: float) -> Making:
    pipeline = making.pipeline
    candidate = PairStatus(
        revision=pipeline.revision,
        policy_digest=result.digests.get("policy", ""),
        policy_endpoint=pipeline.job,
        dialog=DialogStatus.of(result.dialog),
    )
    held_out_after = result.held_out_after if pipeline.fresh_after else ""
    return _enter(
        replace(making, candidate=candidate, metrics=_with_metrics(replace(making, metrics={}), "policy", result)),
        Phase.POLICY_ENDPOINT,
        now,
        held_out_after=held_out_after,
    )


def _on_critic(making: Making, counts: CounterFacts, result: JobResult, now: float) -> Making:
    pair = making.candidate or making.pair
    if pair is None:
        return making
    candidate = pair.model_copy(
        update={
            "critic_digest": result.digests.get("critic", ""),
            "critic_endpoint": making.pipeline.job,
            "critic_url": "",
            "score": ScoreStatus.of(result.score),
        }
    )
    return _enter(
        replace(making, candidate=candidate, metrics=_with_metrics(making, "critic", result)),
        Phase.CRITIC_ENDPOINT,
        now,
        held_out_after=result.held_out_after or making.pipeline.held_out_after,
    )


def _on_calibrate(making: Making, counts: CounterFacts, result: JobResult, now: float) -> Making:
    metrics = _with_metrics(making, "calibrate", result)
    if not result.certificates:
        return _wait_for_more(replace(making, metrics=metrics), counts, result.reason or "nothing certified", now)
    of_pair = counts.pairs.get(making.candidate.revision, PairCounts()) if making.candidate else PairCounts()
    # What is known of whole sessions is of what certified them: another τ, screen or server begins anew.
    sessions = {"unasked": of_pair.unasked, "unasked_wrong": of_pair.unasked_wrong}
    certified = replace(
        making,
        baseline=making.baseline.model_copy(update=sessions),
        pair=making.candidate,
        candidate=None,
        certificates=result.certificates,
        certified_after=result.held_out_after or making.pipeline.held_out_after,
        metrics=metrics,
    )
    return _enter(certified, Phase.CERTIFIED, now, state=PhaseState.DONE)


def _wait_for_more(making: Making, counts: CounterFacts, reason: str, now: float) -> Making:
    """What was made is not good enough: collect sessions, then try again (a new revision where one replaces a pair)."""
    waiting = replace(making, baseline=making.baseline.model_copy(update={"sessions": counts.sessions}))
    pipeline = making.pipeline
    if pipeline.fresh_after:
        waiting = replace(waiting, candidate=None)
        return _enter(
            waiting, Phase.FRESH, now, revision=next_revision(pipeline.revision), attempt=1, last_outcome=reason
        )
    back = Phase.DEMONSTRATIONS if making.pair is None else Phase.FEEDBACK
    waiting = replace(waiting, candidate=None)
    return _enter(waiting, back, now, attempt=pipeline.attempt + 1, held_out_after="", last_outcome=reason)


# --- endpoints -------------------------------------------------------------------------------------------------------
def _watch_policy_endpoint(bundle: Bundle, making: Making, counts: CounterFacts, facts: Facts, now: float) -> Making:
    candidate = making.candidate
    endpoint = facts.endpoints.get(candidate.policy_endpoint) if candidate else None
    if candidate is None or endpoint is None or not endpoint.ready:
        return _waiting(making, endpoint.reason if endpoint else "policy endpoint not there yet")
    served = candidate.model_copy(update={"policy_url": endpoint.url})
    if making.pipeline.fresh_after:
        return _start_job(bundle, replace(making, candidate=served), Phase.CRITIC, now, since="")
    # The first pair is the current one as soon as its policy is served: it proposes, and nothing more, in Copilot.
    making = replace(making, pair=served, candidate=None)
    return _enter(making, Phase.FEEDBACK, now, window_since=write_time(now), window_until="")


def _watch_critic_endpoint(bundle: Bundle, making: Making, counts: CounterFacts, facts: Facts, now: float) -> Making:
    candidate = making.candidate
    endpoint = facts.endpoints.get(candidate.critic_endpoint) if candidate else None
    if candidate is None or endpoint is None or not endpoint.ready:
        return _waiting(making, endpoint.reason if endpoint else "critic endpoint not there yet")
    served = replace(making, candidate=candidate.model_copy(update={"critic_url": endpoint.url}))
    return _start_job(bundle, served, Phase.CALIBRATE, now, since=making.pipeline.window_since)


def _rest(bundle: Bundle, making: Making, counts: CounterFacts, facts: Facts, now: float) -> Making:
    """Nothing to do while certificates stand. Where none does any more, the pair is certified anew."""
    void = find_void(bundle, making.pair, making.certificates)
    if not void:
        return making if making.pipeline.state is PhaseState.DONE else _enter(making, Phase.CERTIFIED, now, DONE)
    if making.pipeline.state is PhaseState.DONE:
        return _enter(making, Phase.CERTIFIED, now, reason=void)
    pair = making.pair
    endpoints = (pair.policy_endpoint, pair.critic_endpoint) if pair else ()
    served = all(name in facts.endpoints and facts.endpoints[name].ready for name in endpoints)
    if not served or now - read_time(making.pipeline.since) < SETTLING_SECONDS:
        return making
    again = _next_attempt(replace(making, candidate=pair))
    again = replace(again, pipeline=again.pipeline.model_copy(update={"held_out_after": making.certified_after}))
    return _start_job(bundle, again, Phase.CALIBRATE, now, since=making.pipeline.window_since)


# --- moves -----------------------------------------------------------------------------------------------------------
def _start_job(bundle: Bundle, making: Making, phase: Phase, now: float, since: str) -> Making:
    pipeline = making.pipeline
    suffix = f"-{pipeline.attempt}" if pipeline.attempt > 1 else ""
    job = f"{bundle.name}-{_revision_of(making, phase)}-{JOB_PHASES[phase]}{suffix}"
    return _enter(
        making,
        phase,
        now,
        state=PhaseState.RUNNING,
        job=job,
        window_since=since,
        # Sessions that closed while the Jobs before this one ran were seen by none of them: they are held out too.
        window_until=write_time(now),
        held_out_after="" if phase is Phase.POLICY else pipeline.held_out_after,
        failures=pipeline.failures if pipeline.phase is phase else 0,
    )


def _revision_of(making: Making, phase: Phase) -> str:
    """A policy is made for the pipeline's revision; everything after it belongs to the pair it is made for."""
    pair = making.candidate or making.pair
    return making.pipeline.revision if phase is Phase.POLICY or pair is None else pair.revision


def _enter_attempt(making: Making) -> Making:
    """Labels were looked at: what is certified next shares δ with it."""
    calibrations = making.pipeline.calibrations + 1
    return replace(making, pipeline=making.pipeline.model_copy(update={"calibrations": calibrations}))


def _next_attempt(making: Making) -> Making:
    return replace(making, pipeline=making.pipeline.model_copy(update={"attempt": making.pipeline.attempt + 1}))


def _enter(
    making: Making, phase: Phase, now: float, state: PhaseState = PhaseState.WAITING, **update: object
) -> Making:
    fields: dict[str, object] = {"phase": phase, "state": state, "since": write_time(now), "retry_at": "", "reason": ""}
    if phase not in JOB_PHASES:
        fields |= {"job": "", "failures": 0}
    return replace(making, pipeline=making.pipeline.model_copy(update=fields | update))


def _waiting(making: Making, reason: str) -> Making:
    return replace(making, pipeline=making.pipeline.model_copy(update={"state": PhaseState.WAITING, "reason": reason}))


def _with_metrics(making: Making, phase: str, result: JobResult) -> dict[str, float]:
    return (making.metrics or {}) | {f"{phase}:{name}": value for name, value in result.metrics.items()}


Step = Callable[[Bundle, Making, CounterFacts, Facts, float], Making]
STEPS: dict[Phase, Step] = {
    Phase.DEMONSTRATIONS: _wait_for_demonstrations,
    Phase.POLICY: _watch_job,
    Phase.POLICY_ENDPOINT: _watch_policy_endpoint,
    Phase.FEEDBACK: _wait_for_feedback,
    Phase.CRITIC: _watch_job,
    Phase.CRITIC_ENDPOINT: _watch_critic_endpoint,
    Phase.CALIBRATE: _watch_job,
    Phase.CERTIFIED: _rest,
    Phase.FRESH: _wait_for_fresh,
}
ON_PASSED: dict[Phase, Callable[[Making, CounterFacts, JobResult, float], Making]] = {
    Phase.POLICY: _on_policy,
    Phase.CRITIC: _on_critic,
    Phase.CALIBRATE: _on_calibrate,
}
