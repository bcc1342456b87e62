"""Which candidate is served: the one that covers most at the target precision on development sessions.

Not the one with the least loss or the most right answers: longer training can raise accuracy and ruin confidence, and
it is confidence that decides what may run unasked. Every candidate's figures go into the result.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pilotage_core.actions import classify_action
from pilotage_core.dialog import DialogFormat
from pilotage_core.errors import EvidenceError, InvalidActionError
from pilotage_core.proposal import build_action_schema, read_reply
from pilotage_core.record import SessionRecord
from pilotage_trainer.backends.transformers.asking.inference import PolicyModel
from pilotage_trainer.backends.transformers.asking.readable import propose_readable
from pilotage_trainer.backends.transformers.training.sft import Candidate
from pilotage_trainer.config import JobConfig
from pilotage_trainer.measures.accuracy import Accuracy
from pilotage_trainer.measures.ranking import count_at_precision
from pilotage_trainer.results import tell
from pilotage_trainer.sessions.export import human_points
from pilotage_trainer.sessions.labels import is_same_step
from pilotage_trainer.sessions.steps import OPERATOR_ONLY, TYPE, name_step


@dataclass(frozen=True)
class JudgedCandidate:
    """A candidate on development sessions.

    `covered` is how many right critical actions a τ on confidence lets through at the target precision, the strata
    taken together; `critical` how many critical proposals there are.
    """

    candidate: Candidate
    accuracy: Accuracy
    covered: int
    critical: int

    @property
    def coverage(self) -> float:
        """`covered` as a share of the critical proposals."""
        return self.covered / max(self.critical, 1)

    def metrics(self) -> dict[str, float]:
        """Its figures, by the names a JobResult has for them."""
        return {
            "coverage_at_target": self.coverage,
            "action_accuracy": self.accuracy.metrics()["action_accuracy"],
            "development_loss": self.candidate.loss,
        }


def choose_candidate(
    candidates: Sequence[Candidate],
    load: Callable[[Candidate], PolicyModel],
    records: Sequence[SessionRecord],
    form: DialogFormat,
    config: JobConfig,
) -> tuple[JudgedCandidate, list[JudgedCandidate]]:
    """The candidate to serve, and all as they were judged on `records`. Raises EvidenceError where there is none.

    `form` is what they were trained in.
    Most covered wins; then most right; then the later one.
    """
    if not candidates:
        raise EvidenceError("training left no candidate", where="candidates", remedy="train anew")
    judged = []
    for candidate in candidates:
        judged.append(judge_candidate(candidate, load(candidate), records, form, config))
        figures = judged[-1].metrics()
        tell(
            f"candidate {candidate.step}: coverage {figures['coverage_at_target']:.3f} at the target precision, "
            f"action accuracy {figures['action_accuracy']:.3f}, loss {figures['development_loss']:.4f}"
        )
    best = max(judged, key=lambda each: (each.covered, each.accuracy.action_hits, each.candidate.step))
    return best, judged


def judge_candidate(
    candidate: Candidate, policy: PolicyModel, records: Sequence[SessionRecord], form: DialogFormat, config: JobConfig
) -> JudgedCandidate:
    """Ask `policy` at every human point of `records`, in dialogs of `form`; compare with what the person did."""
    accuracy, scored, unread = Accuracy(), dict[str, list[tuple[float, bool]]](), 0
    for record in records:
        points = human_points(record, form)
        asks = [(point.prompt, build_action_schema(config.rules, point.state.screen)) for point in points]
        for point, reply in zip(points, propose_readable(policy, asks), strict=True):
            step, screen = name_step(point.taken), point.state.screen
            unread += reply is None
            try:
                action = read_reply(reply.reply, screen) if reply else None
            except InvalidActionError:  # cut off in a free text: proposes nothing
                action = None
            silent = step if step in OPERATOR_ONLY else TYPE
            accuracy.count(name_step(action) if action else silent, step)
            kind = classify_action(config.rules, action, screen) if action else None
            if reply is not None and action is not None and kind is not None and kind.critical:
                right = is_same_step(action, point.taken)
                scored.setdefault(kind.stratum, []).append((reply.confidence, right))
    if unread:
        tell(f"{unread} prompts of development sessions are too long for the model: nothing is proposed there")
    covered = sum(
        count_at_precision(scored.get(wanted.name, []), wanted.target or config.precision_target)
        for wanted in config.strata
    )
    return JudgedCandidate(candidate, accuracy, covered, sum(map(len, scored.values())))
