"""Plain words for one process cluster, from its status. Pure text.

Not here: where the status is read (place.py), one decision in words (core's explaining.py).
"""

from collections.abc import Iterator

from pilotage.report.times import clock, in_words
from pilotage_core.certificate import COVERED_DAYS, ScoreSource
from pilotage_core.guardrail import GuardrailVerdict
from pilotage_core.stage import Cap, Need, Stage, find_edge
from pilotage_operator.public import (
    GuardrailReading,
    Pipeline,
    ProcessClusterSpec,
    ProcessClusterStatus,
    SessionsStatus,
    TauStatus,
    Transition,
    UnmetStatus,
    read_time,
)

NEEDS_IN_WORDS: dict[Need, str] = {
    Need.DEMONSTRATIONS: "recorded sessions in which operators did the work",
    Need.MINIMUM_CYCLE: "long enough under supervision",
    Need.POLICY_EVALUATION: "a policy that passed its evaluation",
    Need.POLICY_ENDPOINT: "the policy's model server",
    Need.FEEDBACK: "sessions with operators' verdicts on this policy's proposals",
    Need.CRITIC_EVALUATION: "a critic that was evaluated",
    Need.CRITIC_ENDPOINT: "the critic's model server",
    Need.CERTIFICATE: "strata with a certified threshold τ",
    Need.FRESH_EVIDENCE: "evidence newer than the rollback",
    Need.COOLDOWN: "long enough since the rollback",
    Need.FLAP_BUDGET: "rollbacks lately",
    Need.NO_BREACH: "no guardrail breached",
    Need.CALIBRATION_SESSIONS: "sessions closed in Calibration",
    Need.FRESH_PRECISION: "precision certified anew on what ran in Calibration",
    Need.NO_ALARM: "the alarm over labels of what τ lets through",
    Need.FINALIZATION_REJECTION: "share of sessions whose ending a reviewer rejected",
    Need.CORRECTIVE_INTERVENTION: "share of executed actions an operator had to repair",
    Need.GUARDRAILS_HEALTHY: "all guardrails Healthy",
    Need.APPROVAL: "a person's approval",
}

SCORES_IN_WORDS: dict[ScoreSource | None, str] = {
    ScoreSource.CRITIC: "the critic's",
    ScoreSource.CONFIDENCE: "the policy's confidence, which the critic did not beat",
    ScoreSource.BOTH: "the critic's and the policy's confidence together",
    None: "whether the critic's or the policy's confidence is not told",
}

STAGES_IN_WORDS: dict[Stage, str] = {
    Stage.LOGGING: "operators do all the work and it is recorded",
    Stage.COPILOT: "the model proposes, operators decide",
    Stage.CALIBRATION: "actions whose score reaches τ run by themselves, every ending is reviewed",
    Stage.AUTOMATION: "actions whose score reaches τ run by themselves, a share is audited",
}

CAPS_IN_WORDS: dict[Cap, str] = {
    Cap.SUSPENDED: "someone suspended it (spec.suspend)",
    Cap.GUARDRAIL_DATA_MISSING: "a guardrail has had no trustworthy reading for longer than its grace",
    Cap.ENDPOINT_DOWN: "a model server does not answer",
    Cap.NO_PERMIT_AUTHORITY: "nobody signs permits",
    Cap.NO_ADMISSION_POLICY: "the admission policy for promotions is absent",
    Cap.CLOCK_SKEW: "clocks differ by more than 5 seconds",
    Cap.CERTIFICATE_VOID: "something its certificate rests on has changed",
}


def explain_process_cluster(name: str, spec: ProcessClusterSpec, status: ProcessClusterStatus, now: float) -> str:
    """Where it is, since when and why, what holds it, and what is missing. `now` in seconds since the epoch."""
    blocks = [
        _standing(name, status, now),
        _held(spec, status),
        _latched(status, now),
        _missing(status),
        _supervision(spec, status),
        _making(status.pipeline, now),
        _thresholds(status),
        _sessions(status.sessions, status.ends),
        _guardrails(status.guardrails, now),
        _history(status.transitions),
    ]
    return "\n\n".join("\n".join(lines) for lines in map(list, blocks) if lines)


def _standing(name: str, status: ProcessClusterStatus, now: float) -> Iterator[str]:
    stood = in_words(now - read_time(status.stage_since)) if status.stage_since else "the beginning"
    yield f"{name} is in {status.stage}, for {stood}: {STAGES_IN_WORDS[status.stage]}."
    if status.transitions:
        yield f"Why: {status.transitions[-1].reason}."


def _held(spec: ProcessClusterSpec, status: ProcessClusterStatus) -> Iterator[str]:
    if status.held_by:
        words = CAPS_IN_WORDS.get(Cap(status.held_by), status.held_by) if status.held_by in list(Cap) else ""
        yield f"It has earned {status.earned} but is held at {status.stage}: {words or status.held_by}."
        yield "This lifts by itself and costs nothing it has earned."
    if spec.max_stage.rank <= status.earned.rank and spec.max_stage is not Stage.AUTOMATION:
        yield f"People let it go no further than {spec.max_stage} (spec.maxStage)."


def _latched(status: ProcessClusterStatus, now: float) -> Iterator[str]:
    rollback = status.rollback
    if rollback is None:
        return
    state = "latched" if rollback.latched and not rollback.acknowledged else "lifted since"
    ago = in_words(now - read_time(rollback.at))
    yield f"Rolled back {ago} ago by guardrail {rollback.guardrail} ({state}): {rollback.reason}."
    if state == "latched":
        yield "What lifts it: a new pair with a certificate on labels newer than that, or,"
        yield f"by someone who has understood it, spec.acknowledgedRollback: {rollback.id}."


def _missing(status: ProcessClusterStatus) -> Iterator[str]:
    edge = find_edge(status.earned)
    if edge is None:
        yield "There is nothing above it to climb to."
        return
    if not status.unmet:
        yield f"Nothing is missing for {edge.target}."
        return
    yield f"Missing for {edge.target}:"
    width = max(len(unmet.condition) for unmet in status.unmet)
    for unmet in status.unmet:
        yield f"  ✗ {unmet.condition:<{width}}  {_unmet_in_words(unmet)}"
    unmet_names = {unmet.condition for unmet in status.unmet}
    held = [need.value for need in edge.needs if need.value not in unmet_names]
    if held:
        yield f"  ✓ {', '.join(held)}"


def _unmet_in_words(unmet: UnmetStatus) -> str:
    words = NEEDS_IN_WORDS.get(Need(unmet.condition), "") if unmet.condition in list(Need) else ""
    return f"{unmet.have or 'nothing'}; needs {unmet.need}" + (f" ({words})" if words else "")


def _supervision(spec: ProcessClusterSpec, status: ProcessClusterStatus) -> Iterator[str]:
    seen = status.supervision
    yield (
        f"Seen so far: {seen.sessions} sessions closed, {seen.demonstrations} with operators' own work "
        f"(a policy needs {spec.supervision.min_demonstrations}),"
    )
    yield (
        f"  {seen.feedback_sessions} with verdicts on this policy (a critic needs {spec.supervision.min_feedback}), "
        f"{seen.calibration_sessions} in Calibration, {seen.fresh_sessions} fresh since the last setback."
    )


def _making(pipeline: Pipeline | None, now: float) -> Iterator[str]:
    if pipeline is None:
        return
    stood = in_words(now - read_time(pipeline.since)) if pipeline.since else "?"
    job = f", Job {pipeline.job}" if pipeline.job else ""
    yield f"Making of {pipeline.revision}: {pipeline.phase}, {pipeline.state} for {stood}{job}."
    if pipeline.reason:
        yield f"  {pipeline.reason}"
    if pipeline.failures:
        yield f"  {pipeline.failures} failures; tried again at {pipeline.retry_at or 'once'}"


def _thresholds(status: ProcessClusterStatus) -> Iterator[str]:
    if status.pair is not None:
        yield f"Pair in service: {status.pair.revision} (policy {status.pair.policy_digest[:12] or 'none'}, critic " + (
            f"{status.pair.critic_digest[:12] or 'none'})."
        )
    for stratum, tau in status.tau.items():
        yield from tau_in_words(stratum, tau)
    if not status.tau:
        yield "No τ is certified: every critical action is proposed, none runs by itself."


def _sessions(sessions: SessionsStatus | None, ends: str) -> Iterator[str]:
    """Who ends sessions, and what is certified of those that run by themselves."""
    if sessions is None:
        return
    who = "the model ends them, but for a share that people review" if ends == "Model" else "people end them"
    verb = "is" if sessions.certified else "is not"
    yield f"Whole sessions: {who}. It {verb} certified that {float(sessions.target):.0%} of those nobody is asked about"
    yield (
        f"  come out right: {sessions.wrong} of {sessions.unasked} came out wrong since this pair was, so at least "
        f"{float(sessions.bound or 0):.1%} do."
    )


def tau_in_words(stratum: str, tau: TauStatus) -> Iterator[str]:
    """A certificate in words."""
    yield f"τ of stratum {stratum}: a score of at least {tau.tau} ({SCORES_IN_WORDS[tau.score_from]})."
    yield (
        f"  With confidence {1 - float(tau.delta):.4g} at least {float(tau.bound):.1%} of such actions are what an "
        f"operator would accept unedited (target {float(tau.target):.0%})."
    )
    yield (
        f"  Evidence: {tau.labels} held-out labels ({tau.labels_from}), {tau.selected} at or above τ "
        f"(coverage {float(tau.coverage):.0%}), {tau.errors} of those wrong; issued {tau.issued_at}."
    )
    if tau.days < COVERED_DAYS:
        told = f"are from {tau.days} day{'s' * (tau.days != 1)}" if tau.days else "do not tell their days"
        yield f"  Days are not covered: the labels {told}; it takes {COVERED_DAYS} to tell how days differ."
    if tau.tightened_to:
        what = "nothing runs" if tau.tightened_to == "nothing" else f"only scores of at least {tau.tightened_to} run"
        yield f"  Tightened: labels since then speak against it (R reached 1,000), so {what} until a new certificate."


def _guardrails(readings: tuple[GuardrailReading, ...], now: float) -> Iterator[str]:
    if not readings:
        return
    yield "Guardrails:"
    width = max(len(reading.name) for reading in readings)
    for reading in readings:
        stood = f", for {in_words(now - read_time(reading.since))}" if reading.since else ""
        mark = {GuardrailVerdict.HEALTHY: "✓", GuardrailVerdict.BREACHED: "✗"}.get(reading.verdict, "·")
        value = f"{reading.value} " if reading.value is not None else ""
        dry = " [dry run: watches, does nothing]" if reading.dry_run else ""
        yield (
            f"  {mark} {reading.name:<{width}}  {reading.verdict}{stood}: {value}of {reading.samples} samples, "
            f"limit {reading.threshold or '?'}; {reading.detail}{dry}"
        )


def _history(transitions: tuple[Transition, ...]) -> Iterator[str]:
    if not transitions:
        return
    yield "Last transitions:"
    start = read_time(transitions[0].at)
    for transition in transitions:
        yield f"  {transition.at}  +{clock(read_time(transition.at) - start)}  {transition.stage}: {transition.reason}"
