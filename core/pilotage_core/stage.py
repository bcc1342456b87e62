"""The stage machine: one enum, one transition table, pure. Only here does a stage flip (DESIGN, section 5).

effective stage = min(ceiling, earned, caps). Caps clear themselves and cost nothing earned; only a breach lowers what is
earned, and latches. Facts come from the controller's observe step; nothing here reads a clock or the world.
"""

from enum import StrEnum


class Stage(StrEnum):
    """How much a process cluster's model may do, in rising order."""

    LOGGING = "Logging"
    COPILOT = "Copilot"
    CALIBRATION = "Calibration"
    AUTOMATION = "Automation"

    @property
    def rank(self) -> int:
        """0 for Logging … 3 for Automation."""
        return ORDER.index(self)


ORDER: tuple[Stage, ...] = (Stage.LOGGING, Stage.COPILOT, Stage.CALIBRATION, Stage.AUTOMATION)
