"""Cards and answers that wait too long: whoever gave an answer is told once, and how many may wait is a number."""

import time

import pytest
from stubs.gateway import SUBMIT, Case

from pilotage_core.actions import ActionRules
from pilotage_core.events import Verdict
from pilotage_core.lists import Answer
from pilotage_core.stage import Stage
from pilotage_gateway.answers import LATE_SECONDS, Answers
from pilotage_gateway.main import main


async def test_who_gave_an_answer_that_no_page_takes_is_told_once(world):
    world.publish(Stage.COPILOT)
    async with world.gateway() as gateway:
        case = Case(gateway)
        turn = await case.begin()
        assert turn.proposal.action == SUBMIT
        turns, now = gateway.app.state.turns, [time.monotonic()]
        answers = Answers(turns.store, 2.0, lambda: now[0])
        session = await turns.find(case.session_id)
        said = Answer(0, case.session_id, turn.proposal.proposal_id, Verdict.ACCEPT, "ann", "2026-03-01T10:00:00Z", 3)
        await answers.give(session, said, ActionRules())
        now[0] += LATE_SECONDS
        assert answers.take_late("ann") == [], "it was held back for a moment first"
        now[0] += 3.0
        assert answers.take_late("bob") == []
        assert [each.proposal_id for each in answers.take_late("ann")] == [turn.proposal.proposal_id]
        assert answers.take_late("ann") == []


def test_fewer_than_no_sessions_cannot_wait(capsys, tmp_path):
    with pytest.raises(SystemExit):
        main(["--database", f"sqlite:///{tmp_path}/g.db", "--keys", str(tmp_path), "--most-waiting", "-3"])
    assert "--most-waiting -3" in capsys.readouterr().err
