"""The zero-shot baseline: what a general model is told, how its answers are read, what happens when none comes."""

import pytest
from stubs.endpoint import endpoint
from tenacity import wait_none

from pilotage_core.actions import ActionRules, Tool
from pilotage_core.errors import InvalidInputError, UnavailableError
from pilotage_core.proposal import build_action_schema
from pilotage_core.screen import Control, ControlKind, Screen
from pilotage_trainer.evaluation.points import read_proposal
from pilotage_trainer.evaluation.zero_shot import ZeroShot, build_messages, read_answer

SCREEN = Screen("form", controls=(Control("submit", ControlKind.BUTTON), Control("input:City", ControlKind.INPUT)))
SCHEMA = build_action_schema(ActionRules(), SCREEN)
PROMPT = "@ domains=weather\n% form\n< hello\n>"


def test_the_tools_the_ids_and_the_session_are_told():
    system, user = build_messages(PROMPT, SCHEMA)
    assert "click_control(control_id (one of: submit))" in system["content"]
    assert "fill_input(control_id (one of: input:City); value (text))" in system["content"]
    assert "close_chat()" in system["content"]
    assert "open_procedure" not in system["content"]
    assert user["content"].startswith("@ domains=weather\n% form\n< hello\n\n")


@pytest.mark.parametrize(
    ("answer", "tool", "invalid"),
    [
        ('{"tool": "click_control", "control_id": "submit"}', Tool.CLICK_CONTROL, False),
        ('```json\n{"tool": "click_control", "control_id": "submit"}\n```', Tool.CLICK_CONTROL, False),
        ('I would click.\n{"tool": "click_control", "control_id": "submit", "text": ""}', Tool.CLICK_CONTROL, False),
        ('{"tool": "close_chat", "control_id": null}', Tool.CLOSE_CHAT, False),
        ('{"tool": "close_chat"}\n\nThe answer is:\n\n{"tool": "dance"}', Tool.CLOSE_CHAT, False),
        ('{"tool": "close_chat"} and {so on', Tool.CLOSE_CHAT, False),
        ("7", None, True),
        ('{"tool": ""}', None, False),
        ("click submit", None, True),
        ('{"tool": "dance"}', None, True),
        ("{broken", None, True),
        ("", None, True),
    ],
)
def test_answers_as_models_give_them(answer, tool, invalid):
    proposed, is_invalid = read_proposal(read_answer(answer), SCREEN)
    assert (proposed.tool if proposed else None, is_invalid) == (tool, invalid)


def test_an_endpoint_is_asked_greedily_and_in_order(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with endpoint(lambda body: body["messages"][1]["content"].split("\n")[0].removeprefix("@ ")) as (url, asked):
        replies = ZeroShot(url, "some-model").ask([(f"@ {n}\n>", SCHEMA) for n in range(20)])
    assert [reply.text for reply in replies] == [str(n) for n in range(20)]
    assert {(body["model"], body["temperature"], body["path"]) for body in asked} == {
        ("some-model", 0, "/v1/chat/completions")
    }


@pytest.mark.parametrize(("status", "times", "kind"), [(404, 1, InvalidInputError), (503, 5, UnavailableError)])
def test_an_endpoint_that_refuses_stops_the_run(status, times, kind, monkeypatch):
    monkeypatch.setattr(ZeroShot._send.retry, "wait", wait_none())
    with endpoint(lambda _: status) as (url, asked):
        with pytest.raises(kind, match=str(status)):
            ZeroShot(url, "m").ask([(PROMPT, SCHEMA)])
        assert len(asked) == times
