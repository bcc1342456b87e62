"""The session certificate: whether enough is known of sessions that run by themselves for a model to end them.

The bound is core/monitoring.py's, valid whenever it is looked at; the evidence is of one pair since it was certified.
"""

from pilotage_core.certificate import find_attempt_share
from pilotage_core.monitoring import is_share_within, share_bound
from pilotage_operator.api.automation_gate import FinalizationMode
from pilotage_operator.api.status import SessionsStatus
from pilotage_operator.decide.pipeline import Making
from pilotage_operator.facts import Bundle, PairCounts


def are_sessions_certified(bundle: Bundle, making: Making, counts: PairCounts) -> bool:
    """Whether sessions that nobody was asked about are certified to come out right as often as the gate wants."""
    if bundle.gate.finalization.mode is not FinalizationMode.AUTO:
        return False
    wrong, unasked = _count(making, counts)
    limit = 1.0 - float(bundle.gate.finalization.session_target)
    return 0 <= wrong <= unasked and is_share_within(limit, find_delta(bundle, making), wrong, unasked)


def find_delta(bundle: Bundle, making: Making) -> float:
    """The share of the gate's δ that this pair tests at: each attempt to certify has its own, and all sum to δ."""
    return float(bundle.gate.finalization.session_delta) * find_attempt_share(max(1, making.pipeline.calibrations))


def describe_sessions(bundle: Bundle, making: Making, counts: PairCounts) -> SessionsStatus | None:
    """The same for people; None where nothing is counted, or nobody wants a model to end sessions."""
    wrong, unasked = _count(making, counts)
    if bundle.gate.finalization.mode is not FinalizationMode.AUTO or not 0 <= wrong <= unasked or not making.pair:
        return None
    bound = 1.0 - share_bound(find_delta(bundle, making), wrong, unasked)
    return SessionsStatus(
        target=bundle.gate.finalization.session_target,
        unasked=unasked,
        wrong=wrong,
        bound=f"{bound:.4g}",
        certified=are_sessions_certified(bundle, making, counts),
    )


def _count(making: Making, counts: PairCounts) -> tuple[int, int]:
    base = making.baseline
    return counts.unasked_wrong - base.unasked_wrong, counts.unasked - base.unasked
