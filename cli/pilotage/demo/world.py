"""What the driver needs of a world to run the main job in: the same for local processes and for Kubernetes."""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

import msgspec

from pilotage_core.stage import UNATTENDED, Stage

MAKING = ("Policy", "PolicyEndpoint", "Critic", "CriticEndpoint", "Calibrate")
"""Phases of a pipeline that wait for no session."""


class Scene(msgspec.Struct, frozen=True):
    """One look at the world. `process_clusters` are API objects; `sessions` counts closed ones by process cluster.

    `playing` is False once the simulator has ended; `failure` says how, if it was not for want of dialogues. `trouble`
    is what does not answer at the moment.
    """

    process_clusters: tuple[dict[str, Any], ...] = ()
    sessions: dict[str, int] = {}
    live_sessions: int = 0
    executed: int = 0
    playing: bool = True
    trouble: str = ""
    failure: str = ""


class Data(StrEnum):
    """Whose dialogues are played."""

    DESK = "desk"  # in closed loop: customers who answer, and books that say how a session came out
    STAR = "star"  # replayed


class Dialogues(msgspec.Struct, frozen=True):
    """What is played: `path` is the file or folder that was named (None: the data set, wherever it is found)."""

    data: Data
    path: Path | None = None

    @property
    def name(self) -> str:
        """What people call it."""
        return self.path.name if self.path is not None else self.data.name

    @property
    def options(self) -> list[str]:
        """The same for `pilotage-simulate run`."""
        return [f"--{self.data}", str(self.path)] if self.path is not None else []


class World(Protocol):
    """Where the main job runs. It plays on for `linger_seconds` at most once the walk is complete, or until settled.

    One that `stays` is there until somebody ends it.
    """

    mode: str
    linger_seconds: float
    stays: bool
    plan: Path
    gateway_url: str
    controller_url: str

    def start(self, dialogues: Dialogues) -> None:
        """Bring everything up and let the simulator play."""
        ...

    def observe(self) -> Scene:
        """Look, and start again what has ended and should not have."""
        ...

    def parts(self) -> Sequence[str]:
        """What can be killed, in the order in which it is."""
        ...

    def kill(self, part: str) -> str:
        """SIGKILL one part; says which process it was."""
        ...

    def is_back(self, part: str) -> bool:
        """Whether a part that was killed works again."""
        ...

    def stop_playing(self) -> None:
        """End the simulator, and wait for its ledger."""
        ...

    def collect(self, run: Path) -> None:
        """Copy every record into the folder of the run."""
        ...

    def end(self) -> None:
        """End whatever this world started."""
        ...


class Walk(msgspec.Struct, frozen=True):
    """How far one process cluster has come: the stages that say so, in the order they were reached."""

    name: str
    stages: tuple[Stage, ...]

    @property
    def climbed(self) -> bool:
        """Whether it has been in Automation."""
        return Stage.AUTOMATION in self.stages

    @property
    def fell(self) -> bool:
        """Whether it was taken back to Copilot after Automation or Calibration."""
        return self._fall() is not None

    @property
    def recovered(self) -> bool:
        """Whether it has acted unattended again after that."""
        fall = self._fall()
        return fall is not None and any(stage in UNATTENDED for stage in self.stages[fall:])

    def _fall(self) -> int | None:
        pairs = zip(self.stages, self.stages[1:], strict=False)
        return next((n + 1 for n, (a, b) in enumerate(pairs) if a in UNATTENDED and b is Stage.COPILOT), None)


def walk_of(item: dict[str, Any]) -> Walk:
    """The walk of one process cluster, from the transitions kept in its status."""
    flips = (item.get("status") or {}).get("transitions") or ()
    return Walk(item["metadata"]["name"], tuple(Stage(flip["stage"]) for flip in flips))


def is_complete(scene: Scene) -> bool:
    """Whether one process cluster has climbed to Automation, was taken back, and acts unattended again."""
    walks = [walk_of(item) for item in scene.process_clusters]
    return any(walk.climbed and walk.fell and walk.recovered for walk in walks)


def is_settled(scene: Scene) -> bool:
    """Whether everything that has ever acted unattended is in Automation now."""
    walks = [walk_of(item) for item in scene.process_clusters]
    return all(walk.stages[-1] is Stage.AUTOMATION for walk in walks if UNATTENDED & set(walk.stages))


def is_at_work(scene: Scene) -> bool:
    """Whether a Job or a model server is awaited somewhere: that may flip a stage without another session."""
    pipelines = [(item.get("status") or {}).get("pipeline") or {} for item in scene.process_clusters]
    return any(one.get("phase") in MAKING and one.get("state") != "Failed" for one in pipelines)


def reached_in_words(scene: Scene) -> str:
    """How far each process cluster has come."""
    words = []
    for walk in (walk_of(item) for item in scene.process_clusters):
        path = " → ".join(walk.stages) or Stage.LOGGING.value
        words.append(f"{walk.name}: {path}")
    return "; ".join(words)
