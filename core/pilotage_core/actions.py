"""The nine tools, one action, and how a process cluster classes it: critical, finalizing, stratum, stop-listed.

Every action is critical unless the process cluster lists it as uncritical *and* nothing about its screen or control is
in doubt. Not here: whether an action may run (gate.py), or how a screen is read (reading.py).
"""

import hashlib
from enum import StrEnum
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any

import msgspec
import re2

from pilotage_core.errors import InvalidInputError
from pilotage_core.screen import Screen


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

    @property
    def digest(self) -> str:
        """Identity of these very bytes, 16 hex digits: what was scored is what is gated, recorded and ordered."""
        return hashlib.blake2b(msgspec.json.encode(self), digest_size=8).hexdigest()


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


UNCRITICAL = tuple(
    ActionPattern(tool=tool)
    for tool in (
        Tool.OPEN_PROCEDURE,
        Tool.FILL_INPUT,
        Tool.SELECT_RADIO_BUTTON,
        Tool.SELECT_ELEMENT_IN_COMBO_BOX,
        Tool.SELECT_ELEMENT_IN_SELECT,
    )
)
"""What only navigates or fills in, where a process cluster does not say otherwise."""


class ActionRules(msgspec.Struct, frozen=True, omit_defaults=True):
    """A process cluster's word on its actions; the first matching stratum rule wins.

    `uncritical` lists all that may run without a score; a click is listed only by a pattern that names control and
    screen, and what writes to the customer or ends the session by none. `finalizing` adds to what always ends one
    (close, transfer). `stop_list` and `stop_texts` (RE2 expressions over text and value) are proposed, never run.
    `unattended_in_copilot` are the uncritical actions that Copilot may run. `tools` empty means all nine.
    `transfer_targets` are the values that a transfer may name; empty: none.
    """

    uncritical: tuple[ActionPattern, ...] = UNCRITICAL
    finalizing: tuple[ActionPattern, ...] = ()
    strata: tuple[StratumRule, ...] = ()
    stop_list: tuple[ActionPattern, ...] = ()
    stop_texts: tuple[str, ...] = ()
    next_steps: tuple[NextStepRule, ...] = ()
    unattended_in_copilot: tuple[ActionPattern, ...] = ()
    tools: tuple[Tool, ...] = ()
    transfer_targets: tuple[str, ...] = ()
    same_action_limit: int = 3
    no_progress_limit: int = 30


DEFAULT_STRATA: dict[Tool, str] = {
    Tool.SEND_TEXT_TO_CHAT: "message",
    Tool.CLOSE_CHAT: "finalizing",
    Tool.TRANSFER_CHAT: "finalizing",
}


class ActionClass(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a process cluster's rules make of one action.

    `stratum` is empty where no rule names the action, or where it is in `doubt` (why): then no certificate can cover
    it, and it is proposed at most.
    """

    critical: bool
    finalizing: bool
    stratum: str
    stopped: bool
    unattended_in_copilot: bool
    doubt: str = ""


@lru_cache(maxsize=512)
def _compiled(pattern: str) -> Any:
    """One engine where an expression is checked and where it runs: RE2, linear in the text. None: it is none."""
    options = re2.Options()
    options.case_sensitive = False
    options.log_errors = False
    options.max_mem = 1 << 20
    try:
        return re2.compile(pattern, options)
    except re2.error:
        return None


def check_expression(pattern: str, where: str) -> None:
    """Raise InvalidInputError where `pattern` cannot be run as a stop text."""
    if _compiled(pattern) is None:
        raise InvalidInputError(f"{pattern!r} is no regular expression (RE2), or too large a one", where=where)


def _is_stopped_text(pattern: str, action: Action) -> bool:
    """Whether `pattern` is in what `action` says or types. One that cannot be run stops everything."""
    expression = _compiled(pattern)
    return expression is None or bool(expression.search(action.text) or expression.search(action.value))


def find_doubt(action: Action, screen: Screen) -> str:
    """Why nothing that was learned can be said to be about `action` on `screen`; empty where it can."""
    if screen.fault:
        return f"the screen is not what it should be: {screen.fault}"
    if not screen.recognised:
        return f"no schema recognises screen {screen.name!r}"
    if action.tool not in UI_TOOLS and not action.control_id:
        return ""
    found = [control for control in screen.controls if control.control_id == action.control_id]
    if len(found) != 1:
        return f"{len(found)} controls are called {action.control_id!r}"
    return "" if found[0].known else f"no rule of schema {screen.name!r} names control {action.control_id!r}"


def _is_listed(rules: ActionRules, action: Action, screen: str) -> bool:
    """Whether `action` is listed as uncritical. A click is by its control and its screen: submits are clicks too."""
    clicks = action.tool is Tool.CLICK_CONTROL
    return action.tool not in ALWAYS_CRITICAL and any(
        pattern.matches(action, screen) and (not clicks or (pattern.control and pattern.screen))
        for pattern in rules.uncritical
    )


def classify_action(rules: ActionRules, action: Action, screen: Screen) -> ActionClass:
    """Class `action`, taken on `screen`, by `rules`. Total: every action has a class, an unknown one is critical."""
    doubt, name = find_doubt(action, screen), screen.name
    finalizing = action.tool in ALWAYS_FINALIZING or any(p.matches(action, name) for p in rules.finalizing)
    critical = finalizing or bool(doubt) or not _is_listed(rules, action, name)
    named = next(
        (rule.stratum for rule in rules.strata if rule.pattern.matches(action, name)),
        DEFAULT_STRATA.get(action.tool, "finalizing" if finalizing else ""),
    )
    stopped = any(p.matches(action, name) for p in rules.stop_list) or any(
        _is_stopped_text(text, action) for text in rules.stop_texts
    )
    unattended = any(p.matches(action, name) for p in rules.unattended_in_copilot)
    return ActionClass(critical, finalizing, "" if doubt else named, stopped, unattended, doubt)


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
