"""Which part is killed when, and how long until it is back. Facts in, the next step out; killing is the world's."""

import msgspec

from pilotage.demo.world import Scene
from pilotage_core.stage import Stage

PAUSE_SECONDS = 4.0
GIVE_UP_SECONDS = 60.0
LEAST_STAGE = (Stage.COPILOT, Stage.COPILOT, Stage.CALIBRATION)
"""The first parts are killed as soon as a model proposes; from the third on, only while one acts unattended."""


class FaultPlan(msgspec.Struct, frozen=True):
    """Faults still to come, in order; the one under way; when the last one was over. Times in seconds, one clock."""

    to_come: tuple[str, ...]
    killed: str = ""
    killed_at: float = 0.0
    over_at: float = 0.0
    done: int = 0


def next_to_kill(plan: FaultPlan, scene: Scene, now: float) -> str:
    """The part to kill now, or the empty string."""
    if plan.killed or not plan.to_come or now - plan.over_at < PAUSE_SECONDS:
        return ""
    stages = [Stage((item.get("status") or {}).get("stage") or Stage.LOGGING) for item in scene.process_clusters]
    least = LEAST_STAGE[min(plan.done, len(LEAST_STAGE) - 1)]
    return plan.to_come[0] if any(stage.rank >= least.rank for stage in stages) else ""


def after_kill(plan: FaultPlan, now: float) -> FaultPlan:
    """The plan once its first part was killed."""
    return msgspec.structs.replace(plan, killed=plan.to_come[0], killed_at=now, to_come=plan.to_come[1:])


def after_recovery(plan: FaultPlan, now: float) -> FaultPlan:
    """The plan once the killed part is back, or was given up."""
    return msgspec.structs.replace(plan, killed="", over_at=now, done=plan.done + 1)
