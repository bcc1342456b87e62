"""The gateway's metrics (names are a contract with the controller's guardrails). Counts come from the records.

Counters are restored from the records at start and exist from 0 on for every process cluster and pair of the snapshot,
so that a guardrail's increase over a window never misses the first event.
"""

from collections.abc import Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

from pilotage_core.actions import DEFAULT_STRATA, Tool
from pilotage_core.events import Outcome, Verdict
from pilotage_core.gate import Decision, Reason
from pilotage_core.stage import Stage
from pilotage_core.wire import Leave

PAIR = ("process_cluster", "pair")
COUNTERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "sessions_closed": ("Sessions closed, by the stage they closed in", (*PAIR, "stage")),
    "demonstration_sessions": ("Closed sessions with at least one action by an operator", ("process_cluster",)),
    "feedback_sessions": ("Closed sessions with feedback on a proposal of the pair made in Copilot", PAIR),
    "feedback": ("Verdicts of operators on proposals", (*PAIR, "tool", "verdict")),
    "decisions": ("Stored decisions of the gate; no proposal says why", (*PAIR, "stage", "decision", "reason")),
    "orders": ("Orders given: by permit, or by an operator's accept", ("process_cluster", "by")),
    "outcomes": (
        "What became of orders, as last told; orders without one were never told of",
        ("process_cluster", "outcome"),
    ),
    "executed": ("Actions done unattended", (*PAIR, "tool", "critical")),
    "executed_critical": ("Critical actions done unattended", PAIR),
    "corrections": ("Critical actions done unattended that were corrected or rejected in review, each once", PAIR),
    "finalizations_reviewed": ("Finalization reviews of sessions with critical actions done unattended", PAIR),
    "finalizations_rejected": ("Finalization reviews that rejected such a session", PAIR),
    "sessions_judged": ("Closed sessions of which it is known how they came out", ("process_cluster", "right")),
    "sessions_unasked": ("Judged sessions that nobody was asked about before their ending", PAIR),
    "sessions_unasked_wrong": ("Those of them that came out wrong, or whose ending an operator refused", PAIR),
    "labels": ("Labels", (*PAIR, "stratum", "accepted")),
    "model_errors": ("Failed calls of a policy or critic", (*PAIR, "model")),
    "decided": ("Stored decisions of the gate", PAIR),
    "deferred": ("Those of them that asked an operator, or gave one the wheel", PAIR),
    "handed_off": ("Those of them that gave an operator the wheel", PAIR),
    "states_invalid": ("Those of them in which a screen failed its schema", PAIR),
    "loops": ("Those of them that broke a loop off", PAIR),
    "verdicts": ("Verdicts of operators on proposals", PAIR),
    "verdicts_against": ("Those of them that are no unedited accept", PAIR),
}


def list_parts(name: str, labels: Mapping[str, str]) -> Iterator[str]:
    """The counters by pair alone that an event of counter `name` counts in too.

    They exist from 0 on. One with a label of its own for each kind of event would not: its first burst is no increase.
    """
    if name == "decisions":
        yield "decided"
        yield from ["deferred"] if labels["decision"] in (Decision.PROPOSE, Decision.HAND_OFF) else []
        yield from ["handed_off"] if labels["decision"] == Decision.HAND_OFF else []
        yield from ["states_invalid"] if labels["reason"] == Reason.STATE_INVALID else []
        yield from ["loops"] if labels["reason"] == Reason.LOOP else []
    if name == "feedback":
        yield "verdicts"
        yield from ["verdicts_against"] if labels["verdict"] != Verdict.ACCEPT else []


# When a counter was made is half of a scrape, and nobody reads it: counters are restored from the records at start.
disable_created_metrics()  # type: ignore[no-untyped-call]
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)


class Metrics:
    """One registry; `counters` by the names above (without `pilotage_` and `_total`)."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.counters = {
            name: Counter(f"pilotage_{name}", text, labels, registry=self.registry)
            for name, (text, labels) in COUNTERS.items()
        }
        self.policy_seconds = self._histogram("pilotage_policy_seconds", "Answer time of policies")
        self.critic_seconds = self._histogram("pilotage_critic_seconds", "Answer time of critics")
        self.decision_seconds = self._histogram(
            "pilotage_decision_seconds", "From the first look at a post to its answer, models included"
        )
        self.permit_epoch = Gauge("pilotage_permit_epoch", "Highest permit epoch seen", registry=self.registry)
        self.permit_remaining_seconds = Gauge(
            "pilotage_permit_remaining_seconds", "Validity left of the permit held; 0: none", registry=self.registry
        )
        self.live_sessions = Gauge("pilotage_live_sessions", "Open sessions in memory", registry=self.registry)

    def _histogram(self, name: str, text: str) -> Histogram:
        return Histogram(name, text, buckets=SECONDS, registry=self.registry)

    def count(self, name: str, **labels: str) -> None:
        """Add one to a counter, and to those that it is a part of."""
        self._add(name, labels, 1)

    def restore(self, counts: Iterable[tuple[str, dict[str, str], int]]) -> None:
        """Start from what the records hold."""
        for name, labels, n in counts:
            self._add(name, labels, n)

    def _add(self, name: str, labels: Mapping[str, str], n: int) -> None:
        self.counters[name].labels(**labels).inc(n)
        for part in list_parts(name, labels):
            self.counters[part].labels(process_cluster=labels["process_cluster"], pair=labels["pair"]).inc(n)

    def create(self, leaves: Iterable[Leave]) -> None:
        """Make every counter of these process clusters and their pairs exist."""
        for leave in leaves:
            for pair in {"", leave.pair.revision if leave.pair else ""}:
                self._create_pair(leave, pair)

    def _create_pair(self, leave: Leave, pair: str) -> None:
        key = {"process_cluster": leave.key, "pair": pair}
        self.counters["demonstration_sessions"].labels(process_cluster=leave.key)
        for outcome in Outcome:
            self.counters["outcomes"].labels(process_cluster=leave.key, outcome=outcome.value)
        for right in ("true", "false"):
            self.counters["sessions_judged"].labels(process_cluster=leave.key, right=right)
        for by in ("permit", "operator"):
            self.counters["orders"].labels(process_cluster=leave.key, by=by)
        for stage in Stage:
            self.counters["sessions_closed"].labels(**key, stage=stage.value)
        for name, (_, labels) in COUNTERS.items():
            if labels == PAIR:
                self.counters[name].labels(**key)
        for model in ("policy", "critic"):
            self.counters["model_errors"].labels(**key, model=model)
        for tool in leave.rules.tools or tuple(Tool):
            for verdict in Verdict:
                self.counters["feedback"].labels(**key, tool=tool.value, verdict=verdict.value)
            for critical in ("true", "false"):
                self.counters["executed"].labels(**key, tool=tool.value, critical=critical)
        strata = {rule.stratum for rule in leave.rules.strata} | set(DEFAULT_STRATA.values()) | {"procedure"}
        for stratum in strata:
            for accepted in ("true", "false"):
                self.counters["labels"].labels(**key, stratum=stratum, accepted=accepted)
