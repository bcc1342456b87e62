"""τ chosen together: what whole sessions need of each stratum."""

import msgspec
import pytest

from pilotage_core.events import Event, FeedbackGiven, Verdict
from pilotage_core.record import SessionRecord
from pilotage_trainer.certify.held_out import ScoredLabel
from pilotage_trainer.certify.joint import FEWEST, choose_least_tau, find_spoilt

STRATA = ("message", "procedure")


def label(session: int, stratum: str, score: float, accepted: bool = True) -> ScoredLabel:
    return ScoredLabel(f"s-{session}", "o", stratum, "c", score, accepted, True, 1.0, spoils=not accepted)


def build_labels(sessions: int = 100) -> list[ScoredLabel]:
    """In a fifth of the sessions a message is wrong, and scored below 0.7; the others score 0.8 and more."""
    labels = []
    for number in range(sessions):
        wrong = number % 5 == 0
        labels.append(label(number, "message", 0.6 + 0.001 * number if wrong else 0.8 + 0.001 * number, not wrong))
        labels.append(label(number, "procedure", 0.95))
    return labels


def test_tau_is_as_strict_as_sessions_need_and_no_stricter():
    tau = choose_least_tau(build_labels(), {}, STRATA, 0.93, 0.5)
    runs = [n for n in range(100) if (0.6 if n % 5 == 0 else 0.8) + 0.001 * n >= tau]
    wrong = sum(n % 5 == 0 for n in runs)
    assert wrong / len(runs) * 0.5 <= 0.07
    assert (wrong + 1) / (len(runs) + 1) * 0.5 > 0.07
    assert choose_least_tau(build_labels(), {}, STRATA, 0.75, 0.5) == pytest.approx(0.6)


def test_where_the_target_is_out_of_reach_the_surest_few_run():
    labels = [msgspec.structs.replace(each, spoils=True) for each in build_labels()]
    tau = choose_least_tau(labels, {}, STRATA, 0.9, 0.5)
    assert len({each.session_id for each in labels if each.stratum == "message" and each.score >= tau}) == FEWEST


def test_a_rejection_that_spoils_nothing_does_not_count():
    labels = [msgspec.structs.replace(each, spoils=False) for each in build_labels()]
    assert choose_least_tau(labels, {}, STRATA, 0.99, 0.5) == pytest.approx(0.6)


def test_a_session_that_something_unscored_spoilt_is_not_right():
    spoilt = {f"s-{number}": True for number in range(100) if number >= 80}  # the surest
    assert choose_least_tau(build_labels(), spoilt, STRATA, 0.88, 0.5) > 0.6


def test_what_would_not_run_unasked_chooses_nothing():
    spoilt = {f"s-{number}": False for number in range(100 - FEWEST + 1)}
    assert choose_least_tau(build_labels(), spoilt, STRATA, 0.9, 0.5) == 0.0
    foreign = [label(number, "other", 0.9) for number in range(100)]
    assert choose_least_tau([*build_labels(), *foreign], {}, STRATA, 0.9, 0.5) == 0.0


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"critical": False}, {"s": True}),
        ({"critical": True}, {}),  # a label of its own
        ({"critical": False, "reason": "stop-list"}, {"s": False}),
        ({"critical": True, "decision": "hand_off"}, {"s": False}),
        ({"critical": False, "policy_digest": "another"}, {}),
    ],
)
def test_sessions_are_spoilt_by_what_nobody_scores_and_by_what_never_runs(proposal, changes, expected):
    made = msgspec.structs.replace(proposal, **changes)
    rejected = Event("e", 3, "2026-03-01T10:00:00+00:00", FeedbackGiven(made.proposal_id, Verdict.REJECT, "o"))
    record = SessionRecord("s", "desk/evenings", "t", (rejected,), (made,), "t")
    assert find_spoilt([record], "p") == expected


@pytest.fixture
def proposal():
    from pilotage_core.actions import Action, Tool
    from pilotage_core.record import ProposalRecord
    from pilotage_core.stage import Stage

    return ProposalRecord(
        proposal_id="p1", at_version=2, action=Action(Tool.FILL_INPUT, "slot:city", "x"), pair="r1", policy_digest="p",
        critic_digest="c", stage=Stage.COPILOT, decision="propose", reason="stage-copilot", critical=True,
        stratum="message", state_digest="s", at="t",
    )  # fmt: skip
