"""Which sessions count as unasked, and which of those came out wrong."""

import msgspec
import pytest

from pilotage_core.actions import Action, Tool
from pilotage_core.events import Closing, Verdict
from pilotage_core.gate import Decision, Reason
from pilotage_core.record import ProposalRecord
from pilotage_core.resolution import Resolution, judge_resolution
from pilotage_core.stage import Stage

SUBMIT = Action(Tool.CLICK_CONTROL, "submit")
SAY, CLOSE = Action(Tool.SEND_TEXT_TO_CHAT, "say:more", text="More?"), Action(Tool.CLOSE_CHAT)


def propose(action: Action, at_version: int, **given: object) -> ProposalRecord:
    record = ProposalRecord(
        proposal_id=f"p{at_version}", at_version=at_version, action=action, pair="r1", policy_digest="p",
        critic_digest="c", stage=Stage.CALIBRATION, decision=Decision.EXECUTE, reason=Reason.CERTIFIED, critical=True,
        stratum="message", state_digest="s", at="t", score=0.95, scored=action.digest, tau=0.9,
        executed=True,
    )  # fmt: skip
    return msgspec.structs.replace(record, **given)


RAN = propose(SAY, 3)
PUT = propose(CLOSE, 7, decision=Decision.PROPOSE, reason=Reason.FINALIZING_BY_HUMAN, stratum="finalizing")
ENDED = propose(CLOSE, 7, stratum="finalizing", stage=Stage.AUTOMATION)
AUDITED = msgspec.structs.replace(PUT, reason=Reason.AUDIT, stage=Stage.AUTOMATION)
ACCEPTED = {"p7": Verdict.ACCEPT}


def judge(*proposals, verdicts=ACCEPTED, first_act=None, closing=Closing.CLOSED, right=True):
    return judge_resolution(proposals, verdicts, first_act=first_act, closing=closing, right=right)


@pytest.mark.parametrize("ending", [PUT, ENDED, AUDITED])
@pytest.mark.parametrize("right", [True, False])
def test_a_session_that_ran_to_its_ending_alone_is_unasked_and_as_right_as_it_is(ending, right):
    assert judge(RAN, ending, right=right) == Resolution("r1", unasked=True, right=right)


def test_an_ending_that_is_refused_is_wrong_whatever_the_operator_made_of_it():
    refused = judge(RAN, PUT, verdicts={"p7": Verdict.REJECT}, first_act=9)
    assert refused == Resolution("r1", unasked=True, right=False)
    assert judge(RAN, PUT, verdicts={}, first_act=9).right is False  # nobody's word is no accept


def test_a_refused_ending_counts_however_the_operator_went_on():
    for closing in (Closing.TRANSFERRED, Closing.CLOSED):
        later = propose(CLOSE, 11, decision=Decision.PROPOSE, reason=Reason.ASKED_BEFORE)
        found = judge(
            RAN, PUT, later, verdicts={"p7": Verdict.REJECT, "p11": Verdict.ACCEPT}, first_act=9, closing=closing
        )
        assert found == Resolution("r1", unasked=True, right=False)


def test_a_loop_is_an_ending_and_a_wrong_one():
    loop = propose(SAY, 7, decision=Decision.HAND_OFF, reason=Reason.LOOP, executed=False)
    assert judge(RAN, loop, first_act=9, verdicts={}) == Resolution("r1", unasked=True, right=False)


def test_a_session_that_timed_out_with_nobody_asked_is_as_told():
    assert judge(RAN, closing=Closing.TIMED_OUT, right=False) == Resolution("r1", unasked=True, right=False)


@pytest.mark.parametrize(
    ("proposals", "given"),
    [
        ([RAN, PUT], {"first_act": 5}),  # an operator acted before its ending
        ([RAN], {"first_act": 9}),
        ([RAN, PUT], {"closing": Closing.TRANSFERRED}),
        ([PUT], {}),  # nothing ran
        ([propose(SAY, 3, critical=False), PUT], {}),  # nothing that anyone answers for ran
        ([propose(SAY, 3, decision=Decision.PROPOSE, reason=Reason.BELOW_TAU), PUT], {}),
        ([propose(SAY, 3, decision=Decision.PROPOSE, reason=Reason.AUDIT), PUT], {}),
        ([propose(SAY, 3, decision=Decision.HAND_OFF, reason=Reason.STATE_INVALID), PUT], {}),
        ([msgspec.structs.replace(RAN, executed=False), PUT], {}),  # withdrawn, failed or unknown
        ([RAN, msgspec.structs.replace(PUT, executed=False)], {}),  # accepted, and an operator had to end it
        ([RAN, PUT, propose(SAY, 9)], {}),  # it went on after its ending
        ([RAN, PUT], {"first_act": 12}),  # accepted, and repaired
        ([RAN, propose(SUBMIT, 5, decision=Decision.PROPOSE, reason=Reason.FINALIZING_BY_HUMAN), PUT], {}),
        ([RAN, msgspec.structs.replace(PUT, pair="r2")], {}),
        ([RAN, msgspec.structs.replace(PUT, score=0.8)], {}),  # it would not have run
        ([RAN, msgspec.structs.replace(PUT, score=float("nan"))], {}),
        ([RAN, msgspec.structs.replace(PUT, score=None)], {}),
        ([RAN, msgspec.structs.replace(PUT, tau=None)], {}),
        ([RAN, msgspec.structs.replace(PUT, scored=SAY.digest)], {}),
        ([RAN, msgspec.structs.replace(PUT, stage=Stage.COPILOT)], {}),
        ([], {}),
    ],
)
def test_whoever_was_asked_before_the_ending_makes_it_no_evidence(proposals, given):
    assert not judge(*proposals, **given).unasked
