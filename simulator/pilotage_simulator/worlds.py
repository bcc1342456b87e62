"""What can be played against a gateway: dialogues, and how one becomes a session. STAR is one world, the desk another.

Not here: how many, how fast (play.py), what is done in a session (bpm.py, desk/session.py).
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple, Protocol

from pilotage_simulator.adapter import Bpm
from pilotage_simulator.bpm import Session
from pilotage_simulator.change import change_script
from pilotage_simulator.dialogue import Script, build_script
from pilotage_simulator.ledger import SessionEnded
from pilotage_simulator.plan import Plan
from pilotage_simulator.screens import Renderer
from pilotage_simulator.star import Dialogue, Star, read_dialogues


class Playable(Protocol):
    """A session that waits to be played."""

    async def play(self) -> SessionEnded:
        """Play it to its end."""
        ...


class Case(Protocol):
    """One dialogue that can be played."""

    @property
    def session_id(self) -> str:
        """The name of the session that it becomes."""
        ...

    def build_session(self, bpm: Bpm, process_cluster: str, *, changed: bool) -> Playable:
        """The session; `changed`: by the rules of the changed process."""
        ...


class Offered(NamedTuple):
    """One dialogue in the data's order. `domains` are what lanes choose by; `build` gives None for one in which too
    little happens.
    """

    dialogue_id: str
    domains: tuple[str, ...]
    build: Callable[[], Case | None]


class World(Protocol):
    """Dialogues of one kind."""

    def list_cases(self, plan: Plan) -> Iterator[Offered]:
        """All there are, read as they are asked for."""
        ...


class StarWorld:
    """Dialogues of STAR."""

    def __init__(self, star: Star) -> None:
        self._star = star
        self._renderer = Renderer(star.procedures)

    def list_cases(self, plan: Plan) -> Iterator[Offered]:
        """All there are."""
        for dialogue in read_dialogues(self._star.dialogues):
            build = partial(self._build, dialogue, plan.transfer_share)
            yield Offered(str(dialogue.dialogue_id), dialogue.domains, build)

    def _build(self, dialogue: Dialogue, transfer_share: float) -> Case | None:
        script = build_script(dialogue, self._star.procedures, transfer_share)
        return StarCase(script, self._renderer) if script is not None else None


class StarCase(NamedTuple):
    """A script, and the screens it is played on."""

    script: Script
    renderer: Renderer

    @property
    def session_id(self) -> str:
        """STAR's own number."""
        return f"star-{self.script.dialogue_id}"

    def build_session(self, bpm: Bpm, process_cluster: str, *, changed: bool) -> Session:
        """The session, by the rules that hold then."""
        script = change_script(self.script, self.renderer.procedures) if changed else self.script
        return Session(bpm, self.session_id, process_cluster, script, self.renderer, changed)
