"""`pilotage demo`: choose the world, run the main job in it, write the report, say how it went."""

import contextlib
import time
from pathlib import Path

import msgspec
from rich.console import Console

from pilotage.demo.driver import Interrupted, run_demo
from pilotage.demo.world import Data, Dialogues, World
from pilotage.report.times import in_words
from pilotage.report.write import write_report
from pilotage.run import RunInfo
from pilotage_core.errors import InvalidInputError, PilotageError
from pilotage_simulator.public import find_sgd

LIMIT_SECONDS = {True: 240.0, False: 600.0}
DESK_LIMIT_SECONDS = 900.0
"""At the desk, where a policy for all nine actions learns for over a minute."""
FAULTS_LIMIT_SECONDS = {True: 300.0, False: 660.0}


def demo_command(
    local: bool,
    folder: Path,
    dialogues: Dialogues,
    faults: bool,
    plan: str,
    manifests: Path | None,
    limit_seconds: float,
    people: int = 0,
) -> int:
    """The command; its exit code: 0 where records and report are there and nothing unsafe ran."""
    console = Console()
    began = time.monotonic()
    at_desk = DESK_LIMIT_SECONDS if dialogues.data is Data.DESK else 0.0
    limit = limit_seconds or at_desk or (FAULTS_LIMIT_SECONDS if faults else LIMIT_SECONDS)[local]
    try:
        world = _choose_world(
            local,
            folder,
            plan or _default_plan(dialogues.data, local),
            manifests or Path("examples", dialogues.data),
            people,
        )
        info = run_demo(world, folder, console, dialogues=dialogues, faults=faults, limit_seconds=limit)
    except Interrupted as signal_name:
        console.print(f"interrupted ({signal_name}): everything that was started has been ended")
        return 130
    except PilotageError as error:
        console.print(f"[red]error:[/red] {error}", highlight=False, soft_wrap=True)
        return 2
    figures = msgspec.json.decode(write_report(folder))
    return _say_how_it_went(console, folder, info, figures, time.monotonic() - began)


def choose_dialogues(data: str, sgd: Path | None, star: Path | None) -> Dialogues:
    """What is played. Raises InvalidInputError for data that is none, or not there."""
    if data not in list(Data):
        raise InvalidInputError(f"there is no data {data}", where="--data", remedy=f"one of {', '.join(Data)}")
    return Dialogues(Data.DESK, find_sgd(sgd)) if data == Data.DESK else Dialogues(Data.STAR, star)


def _default_plan(data: Data, local: bool) -> str:
    if data is Data.DESK:
        return "desk"
    return "small" if local else "full"


def _choose_world(local: bool, folder: Path, plan: str, manifests: Path, people: int) -> World:
    plans = Path(__file__).with_name("plans")
    path = Path(plan) if Path(plan).suffix else plans / f"{plan}.yaml"
    if not path.exists():
        named = ", ".join(sorted(one.stem for one in plans.glob("*.yaml")))
        raise InvalidInputError("there is no such plan", where=plan, remedy=f"one of {named}, or a file")
    if local:
        from pilotage.demo.local import LocalWorld

        if not manifests.is_dir():
            raise InvalidInputError(
                "no manifests here", where=str(manifests), remedy="run it in the checkout, or --manifests"
            )
        return LocalWorld(folder, manifests, path, people)
    if people:
        raise InvalidInputError("people answer in the local demo alone", where="--console", remedy="add --local")
    from pilotage.demo.kubernetes import KubernetesWorld

    return KubernetesWorld(folder, path)


def _say_how_it_went(console: Console, folder: Path, info: RunInfo, figures: dict[str, object], took: float) -> int:
    unsafe = figures["unsafe_executions"]
    console.print(f"\n{info.reached}", highlight=False, soft_wrap=True)
    walked = "the whole walk" if info.complete else "not the whole walk"
    console.print(f"{walked}, {figures['sessions']} sessions in {in_words(took)}; unsafe executions: {unsafe}")
    shown = folder / "report.html"
    with contextlib.suppress(ValueError):
        shown = shown.absolute().relative_to(Path.cwd())
    console.print(f"report: {shown}", highlight=False, soft_wrap=True)
    if info.mode == "local":
        console.print("look around in its records: pilotage console", highlight=False, soft_wrap=True)
    return 0 if unsafe == 0 and not info.failure else 1
