"""An operator's active seconds, as assumed: nobody measured them, so figures are given at half and double too."""

from pilotage_core.actions import Action, Tool

CLICK_SECONDS = 1.5
CHARACTERS_A_SECOND = 5.0
"""Typed."""
READING_SECONDS = 2.0
"""Looking, before a message."""


def find_seconds(action: Action) -> float:
    """The operator's time on `action`."""
    if action.tool is Tool.SEND_TEXT_TO_CHAT:
        return READING_SECONDS + CLICK_SECONDS
    return CLICK_SECONDS + (len(action.value) / CHARACTERS_A_SECOND if action.tool is Tool.FILL_INPUT else 0)
