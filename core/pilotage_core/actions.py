"""The nine tools, one action, and how a process cluster classes it: critical, finalizing, stratum, stop-listed.

Not here: whether an action may run (gate.py), or what is on the screen (screen.py).
"""

import re
from enum import StrEnum
from fnmatch import fnmatchcase
from functools import lru_cache

import msgspec


class Tool(StrEnum):
    """The nine tools of the paper (section 3)."""

    SEND_TEXT_TO_CHAT = "send_text_to_chat"
    OPEN_PROCEDURE = "open_procedure"
    CLICK_CONTROL = "click_control"
    SELECT_RADIO_BUTTON = "select_radio_button"
    SELECT_ELEMENT_IN_COMBO_BOX = "select_element_in_combo_box"
    SELECT_ELEMENT_IN_SELECT = "select_element_in_select"
    FILL_INPUT = "fill_input"
    CLOSE_CHAT = "close_chat"
    TRANSFER_CHAT = "transfer_chat"


UI_TOOLS = frozenset(Tool) - {Tool.SEND_TEXT_TO_CHAT, Tool.CLOSE_CHAT, Tool.TRANSFER_CHAT}
VALUE_TOOLS = frozenset(
    {Tool.SELECT_RADIO_BUTTON, Tool.SELECT_ELEMENT_IN_COMBO_BOX, Tool.SELECT_ELEMENT_IN_SELECT, Tool.FILL_INPUT}
)
ALWAYS_CRITICAL = frozenset({Tool.SEND_TEXT_TO_CHAT, Tool.CLOSE_CHAT, Tool.TRANSFER_CHAT})
ALWAYS_FINALIZING = frozenset({Tool.CLOSE_CHAT, Tool.TRANSFER_CHAT})


class Action(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One UI action.

    `control_id` names the element acted on; for `send_text_to_chat` it names the reply template the text comes from,
    or is empty for free text. `value` is what is typed or chosen, `text` what the customer reads.
    """

    tool: Tool
    control_id: str = ""
    value: str = ""
    text: str = ""


class ActionPattern(msgspec.Struct, frozen=True, omit_defaults=True):
    """Which actions a rule speaks of: shell patterns over tool, control and screen; empty matches everything."""

    tool: str = ""
    control: str = ""
    screen: str = ""

    def matches(self, action: Action, screen: str) -> bool:
        """Whether `action`, taken on the screen named `screen`, is one this rule speaks of."""
        return (
            (not self.tool or fnmatchcase(action.tool, self.tool))
            and (not self.control or fnmatchcase(action.control_id, self.control))
            and (not self.screen or fnmatchcase(screen, self.screen))
        )


class StratumRule(msgspec.Struct, frozen=True):
    """Actions that match `pattern` share the τ of `stratum`."""

    pattern: ActionPattern
    stratum: str


class NextStepRule(msgspec.Struct, frozen=True):
    """After an action that matches `after`, only actions that match one of `allowed` are legal next steps."""

    after: ActionPattern
    allowed: tuple[ActionPattern, ...]


class ActionRules(msgspec.Struct, frozen=True, omit_defaults=True):
    """A process cluster's word on its actions; the first matching stratum rule wins.

    `critical` and `finalizing` add to what is always critical (chat, close, transfer) and always finalizing (close,
    transfer). `stop_list` and `stop_texts` (regular expressions over text and value) are proposed, never run.
    `unattended_in_copilot` are the non-critical actions that Copilot may run. `tools` empty means all nine.
    """

    critical: tuple[ActionPattern, ...] = ()
    finalizing: tuple[ActionPattern, ...] = ()
    strata: tuple[StratumRule, ...] = ()
    stop_list: tuple[ActionPattern, ...] = ()
    stop_texts: tuple[str, ...] = ()
    next_steps: tuple[NextStepRule, ...] = ()
    unattended_in_copilot: tuple[ActionPattern, ...] = ()
    tools: tuple[Tool, ...] = ()
    same_action_limit: int = 3
    no_progress_limit: int = 30


DEFAULT_STRATA: dict[Tool, str] = {
    Tool.SEND_TEXT_TO_CHAT: "message",
    Tool.CLOSE_CHAT: "finalizing",
    Tool.TRANSFER_CHAT: "finalizing",
}


class ActionClass(msgspec.Struct, frozen=True):
    """What a process cluster's rules make of one action."""

    critical: bool
    finalizing: bool
    stratum: str
    stopped: bool
    unattended_in_copilot: bool


@lru_cache(maxsize=512)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)


def classify_action(rules: ActionRules, action: Action, screen: str) -> ActionClass:
    """Class `action`, taken on the screen named `screen`, by `rules`. Total: every action has a class."""
    finalizing = action.tool in ALWAYS_FINALIZING or any(p.matches(action, screen) for p in rules.finalizing)
    critical = finalizing or action.tool in ALWAYS_CRITICAL or any(p.matches(action, screen) for p in rules.critical)
    stratum = next(
        (rule.stratum for rule in rules.strata if rule.pattern.matches(action, screen)),
        DEFAULT_STRATA.get(action.tool, "finalizing" if finalizing else "procedure"),
    )
    stopped = any(p.matches(action, screen) for p in rules.stop_list) or any(
        _compiled(text).search(action.text) or _compiled(text).search(action.value) for text in rules.stop_texts
    )
    unattended = any(p.matches(action, screen) for p in rules.unattended_in_copilot)
    return ActionClass(critical, finalizing, stratum, stopped, unattended)


def is_legal_next_step(rules: ActionRules, previous: Action | None, action: Action, screen: str) -> bool:
    """Whether `action` may follow `previous`: true where no rule speaks of `previous`."""
    if rules.tools and action.tool not in rules.tools:
        return False
    if previous is None:
        return True
    speaking = [
        rule for rule in rules.next_steps if rule.after.matches(previous, "") or rule.after.matches(previous, screen)
    ]
    return all(any(p.matches(action, screen) for p in rule.allowed) for rule in speaking)
