"""Made-up bundles and facts for the tables in this folder, and a world in memory that runs what a decision wants."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from pilotage_core.certificate import Certificate, EvidenceDigests, ScoreSource
from pilotage_core.dialog import DEFAULT_FORMAT, DialogFormat
from pilotage_core.guardrail import Reading
from pilotage_core.score import CRITIC_ALONE, ScoreRule
from pilotage_core.wire import JobResult
from pilotage_operator.api.automation_gate import AutomationGateSpec
from pilotage_operator.api.digests import digest_actions, digest_screens
from pilotage_operator.api.policy_critic import PolicyCriticSpec
from pilotage_operator.api.process_cluster import ProcessClusterSpec
from pilotage_operator.api.status import ProcessClusterStatus, write_time
from pilotage_operator.decide.lifecycle import decide_lifecycle
from pilotage_operator.facts import (
    Bundle,
    CounterFacts,
    EndpointFact,
    Facts,
    JobFact,
    JobPhase,
    JobState,
    LifecycleDecision,
    MonitorFact,
    PairCounts,
    WantedJob,
)

ROOT = Path(__file__).parents[3]
START = 1_800_000_000.0
IMAGE = "image@sha256:1"

SPEC = {
    "maxStage": "Automation",
    "actions": {"strata": [{"match": {"control": "submit*"}, "stratum": "procedure"}]},
    "supervision": {"minDemonstrations": 100, "minFeedback": 50, "minimumCycleSeconds": 10, "minFresh": 20},
    "screens": {"configMap": "screens"},
    "policyCriticRef": {"name": "one"},
    "gateRef": {"name": "one"},
}
GATE = {
    "strata": [{"name": "procedure"}, {"name": "finalizing"}],
    "calibration": {
        "minSessions": 30,
        "certify": "Copilot",
        "maxFinalizationRejection": "0.2",
        "maxCorrectiveIntervention": "0.2",
    },
    "guardrails": [
        {
            "name": "corrections",
            "builtin": "CorrectiveInterventionRate",
            "comparator": ">",
            "threshold": "0.3",
            "windowSeconds": 30,
            "minSamples": 20,
            "graceSeconds": 15,
        }
    ],
    "rollback": {"cooldownSeconds": 20, "flapBudget": 2},
}


def merge(base: dict, change: dict) -> dict:
    """`base` with `change` laid over it, dictionary by dictionary."""
    merged = dict(base)
    for key, value in change.items():
        below = base.get(key)
        merged[key] = merge(below if isinstance(below, dict) else {}, value) if isinstance(value, dict) else value
    return merged


def make_bundle(spec: dict | None = None, gate: dict | None = None) -> Bundle:
    return Bundle(
        namespace="star",
        name="one",
        uid="u1",
        generation=1,
        cluster=ProcessClusterSpec.model_validate(merge(SPEC, spec or {})),
        policy_critic=PolicyCriticSpec.model_validate({"backend": "counts"}),
        gate=AutomationGateSpec.model_validate(merge(GATE, gate or {})),
        serving_image=IMAGE,
    )


def make_certificate(
    bundle: Bundle,
    revision: str,
    now: float,
    stratum: str = "procedure",
    score_from: ScoreSource | None = ScoreSource.CRITIC,
    dialog: DialogFormat = DEFAULT_FORMAT,
) -> Certificate:
    digests = EvidenceDigests(
        data="d",
        policy=f"policy-{revision}",
        critic=f"critic-{revision}",
        prompt_format=dialog.digest,
        actions=digest_actions(bundle.cluster),
        screens=digest_screens(bundle.screens),
        serving_image=bundle.serving_image,
    )
    return Certificate(
        process_cluster=bundle.key,
        stratum=stratum,
        tau=0.8,
        n=300,
        selected=200,
        errors=5,
        target=0.9,
        delta=0.025,
        bound=0.93,
        coverage=0.66,
        design_effect=1.2,
        icc=0.02,
        labels_from="live",
        digests=digests,
        median_session_actions=2.0,
        session_bound=0.86,
        issued_at=write_time(now),
        score_from=score_from,
    )


def healthy(samples: int = 40) -> dict[str, Reading]:
    return {"corrections": Reading(0.02, samples)}


@dataclass
class MemoryWorld:
    """Runs what is wanted at once; `certifies` and `passes` say how Jobs end. `step` is one sweep, a second long.

    Policies are trained in `dialog`; `certified_in` (None: the same) is what certificates name. Critics tell `score`.
    """

    bundle: Bundle
    status: ProcessClusterStatus = field(default_factory=ProcessClusterStatus)
    facts: Facts = field(default_factory=lambda: Facts(counts=CounterFacts(), monitor=MonitorFact()))
    now: float = START
    certifies: bool = True
    passes: bool = True
    exit_code: int | None = 0
    score_from: ScoreSource | None = ScoreSource.CRITIC
    dialog: DialogFormat = DEFAULT_FORMAT
    certified_in: DialogFormat | None = None
    score: ScoreRule = CRITIC_ALONE
    job_log: list[WantedJob] = field(default_factory=list)
    stages: list[str] = field(default_factory=list)
    last: LifecycleDecision | None = None

    def step(self, **changes: object) -> LifecycleDecision:
        self.facts = replace(self.facts, **changes)
        decision = decide_lifecycle(self.bundle, self.status, self.facts, self.now)
        self.status = ProcessClusterStatus.model_validate(decision.status.to_json())  # as it comes back from the API
        self._run(decision)
        if not self.stages or self.stages[-1] != self.status.stage:
            self.stages.append(self.status.stage)
        self.now += 1.0
        self.last = decision
        return decision

    def steps(self, n: int, **changes: object) -> None:
        for _ in range(n):
            self.step(**changes)
            changes = {}

    def count(self, **counts: int) -> None:
        self.facts = replace(self.facts, counts=replace(self.facts.counts, **counts))

    def count_pair(self, revision: str, **counts: int) -> None:
        pairs = dict(self.facts.counts.pairs)
        pairs[revision] = replace(pairs.get(revision, PairCounts()), **counts)
        self.count(pairs=pairs)

    def _run(self, decision: LifecycleDecision) -> None:
        jobs = dict(self.facts.jobs)
        for job in decision.jobs:
            if job.name not in jobs:
                self.job_log.append(job)
                jobs[job.name] = self._finish(job)
        kept = {e.name for e in decision.endpoints} | decision.kept_endpoints
        endpoints = {name: fact for name, fact in self.facts.endpoints.items() if name in kept}
        for endpoint in decision.endpoints:
            endpoints.setdefault(endpoint.name, EndpointFact(True, f"http://{endpoint.name}", "", self.now))
        self.facts = replace(self.facts, jobs=jobs, endpoints=endpoints)

    def _finish(self, job: WantedJob) -> JobFact:
        if self.exit_code != 0:
            return JobFact(JobState.FAILED, None, self.exit_code, "broken")
        certificates = ()
        if job.phase is JobPhase.CALIBRATE and self.certifies:
            dialog = self.certified_in or self.dialog
            made = make_certificate(self.bundle, job.revision, self.now, score_from=self.score_from, dialog=dialog)
            certificates = (made,)
        result = JobResult(
            phase=job.phase,
            revision=job.revision,
            passed=self.passes and (job.phase is not JobPhase.CALIBRATE or self.certifies),
            reason="" if self.passes else "not good enough",
            digests={job.phase.value: f"{job.phase}-{job.revision}"},
            certificates=certificates,
            held_out_after=job.held_out_after or (write_time(self.now - 0.5) if job.held_out_share != "0" else ""),
            dialog=self.dialog if job.phase is JobPhase.POLICY else DEFAULT_FORMAT,
            score=self.score if job.phase is JobPhase.CRITIC else CRITIC_ALONE,
        )
        told = msgspec.json.decode(msgspec.json.encode(result), type=JobResult)  # as a termination message
        return JobFact(JobState.SUCCEEDED, told, 0)


def climb_to(world: MemoryWorld, stage: str) -> MemoryWorld:
    """Walk `world` up to `stage` on good evidence."""
    world.count(sessions=100, demonstrations=100)
    world.steps(14)
    if stage == "Copilot":
        return world
    world.steps(4)
    world.count(sessions=160, feedback_sessions=60)
    world.steps(8)
    if stage == "Calibration":
        return world
    world.count_pair("r1", calibration_sessions=200, reviewed=200, rejected=2, executed=400, corrections=3)
    world.count(sessions=400)
    world.steps(3, readings=healthy())
    return world


def names(world: MemoryWorld) -> list[str]:
    return [job.name for job in world.job_log]
