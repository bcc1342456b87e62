"""The calibrate Job's labels: whose they are, on which day, and what was looked at so seldom that it left none."""

import msgspec
import pytest

from pilotage_core.actions import Action, Tool
from pilotage_core.calibration import CalibrationReason
from pilotage_core.certificate import ScoreSource
from pilotage_core.record import ProposalRecord, SessionRecord
from pilotage_core.stage import Stage
from pilotage_trainer.certify.held_out import ScoredLabel, calibrate_strata, explain_results, find_least_propensities
from pilotage_trainer.config import read_config

CONFIG = read_config('{"strata": [{"name": "message"}]}')
LABEL = ScoredLabel("s", "ann", "message", "say:hello", 0.9, True, True, 1.0, "2026-01-01")


def labels(n: int, **fields):
    return [
        msgspec.structs.replace(LABEL, session_id=f"s{i}", score=0.5 + i / n / 2, operator=f"op-{i % 10}", **fields)
        for i in range(n)
    ]


def proposal(number: int, **fields) -> ProposalRecord:
    made = ProposalRecord(
        f"p{number}", number, Action(Tool.SEND_TEXT_TO_CHAT, "say:hello"), "r1", "policy", "critic",
        Stage.CALIBRATION, "execute", "certified", True, "message", "", "",
    )  # fmt: skip
    return msgspec.structs.replace(made, **fields)


def certified(given, least=1.0):
    return calibrate_strata(given, CONFIG, {"message": least})["message"]


def test_labels_that_are_nobodys_are_one_more_operator_and_too_many_certify_nothing():
    whole = labels(400)
    some = [
        msgspec.structs.replace(each, operator="" if i % 10 == 0 else each.operator) for i, each in enumerate(whole)
    ]
    none = [msgspec.structs.replace(each, operator="") for each in whole]
    assert certified(whole).reason is CalibrationReason.CERTIFIED
    assert (certified(some).operators, certified(some).reason) == (9, CalibrationReason.CERTIFIED)
    assert certified(none).reason is CalibrationReason.OPERATORS_UNKNOWN
    assert "say whose the labels are" in explain_results({"message": certified(none)}, ScoreSource.CRITIC)


def test_what_is_looked_at_seldom_needs_more_labels_though_none_of_them_shows_it():
    records = [SessionRecord("s", "a/b", "", (), (proposal(0), proposal(1, propensity=0.02, executed=True)))]
    least = find_least_propensities(records, "policy")
    assert least == {"message": 0.02, "*": 0.02}
    renamed = calibrate_strata(labels(400), CONFIG, {"of old": 0.02, "*": 0.02})["message"]
    assert renamed.tau is None, "a stratum that had another name when it ran"
    assert find_least_propensities(records, "another") == {}
    assert certified(labels(400)).reason is CalibrationReason.CERTIFIED
    seldom = calibrate_strata(labels(400), CONFIG, least)["message"]
    assert (seldom.tau, seldom.reason) == (None, CalibrationReason.TOO_FEW_LABELS)
    assert seldom.needed > 400
    never = [SessionRecord("s", "a/b", "", (), (proposal(0, propensity=0.0),))]
    assert calibrate_strata(labels(4000), CONFIG, find_least_propensities(never, "policy"))["message"].tau is None


@pytest.mark.parametrize(("days", "told"), [(1, 1), (4, 4), (10, 10)])
def test_a_result_says_on_how_many_days_it_rests(days, told):
    given = [msgspec.structs.replace(each, day=f"2026-01-{1 + i % days:02}") for i, each in enumerate(labels(400))]
    assert certified(given).days == told
