"""The main job from start to report, in either world: play, look, kill where faults are asked for, collect, report."""

import platform
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

import msgspec
from rich.console import Console
from rich.table import Table

from pilotage.demo.collect import write_info
from pilotage.demo.faults import GIVE_UP_SECONDS, FaultPlan, after_kill, after_recovery, next_to_kill
from pilotage.demo.timeline import Timeline
from pilotage.demo.world import Dialogues, Scene, World, is_at_work, is_complete, is_settled, reached_in_words
from pilotage.report.times import in_words
from pilotage.run import Fault, RunInfo
from pilotage_core.errors import PilotageError
from pilotage_simulator.public import GAP_CAP_SECONDS, read_plan

LOOK_SECONDS = 0.4


class Interrupted(Exception):
    """Ctrl-C or SIGTERM: what was started is ended, and records are collected as far as they go."""


def run_demo(
    world: World, run: Path, console: Console, *, dialogues: Dialogues, faults: bool, limit_seconds: float
) -> RunInfo:
    """Run the main job in `world`, records into `run`. Whatever happens, everything started is ended."""
    info = RunInfo(
        mode=world.mode,
        started_at=_now(),
        command=" ".join(["pilotage", *sys.argv[1:]]),
        dialogues=dialogues.name,
        machine=f"{platform.machine()}, Python {platform.python_version()}",
        gateway_url=world.gateway_url,
        controller_url=world.controller_url,
        assumptions=assumptions_of(world.plan),
    )
    run.mkdir(parents=True, exist_ok=True)
    with _signals_as_exceptions(), Timeline(console) as timeline:
        try:
            timeline.say(f"starting {'processes' if world.mode == 'local' else 'the simulator'}")
            world.start(dialogues)
            if world.stays:
                timeline.say(f"the console is at {world.gateway_url}/console/ until you end this (Ctrl-C)")
            info.gateway_url, info.controller_url = world.gateway_url, world.controller_url
            write_info(run, info)
            scene, felled = _play(world, timeline, faults, limit_seconds)
            failure = scene.failure
            world.stop_playing()
            timeline.say("collecting the records")
            scene = world.observe()
            world.collect(run)
        finally:
            world.end()
    info.failure = failure
    info.ended_at, info.complete, info.reached = _now(), is_complete(scene), reached_in_words(scene)
    write_info(run, info)
    if faults:
        (run / "faults.json").write_bytes(msgspec.json.encode(felled))
        console.print(fault_table(felled))
    return info


def assumptions_of(plan: Path) -> dict[str, float]:
    """What a plan assumes of operators, by the names the report prints."""
    chosen = read_plan(plan)
    names = ("look_seconds", "accept_seconds", "accept_later_probability", "transfer_share")
    return {name: getattr(chosen, name) for name in names} | {"gap_cap_seconds": GAP_CAP_SECONDS}


def _play(world: World, timeline: Timeline, faults: bool, limit_seconds: float) -> tuple[Scene, list[Fault]]:
    """Look again and again until the walk is complete, there is nothing left to play, or the time is over."""
    began, least = time.monotonic(), read_plan(world.plan).linger_seconds
    complete_at: float | None = None
    plan = FaultPlan(to_come=tuple(world.parts()) if faults else ())
    felled: list[Fault] = []
    while True:
        scene = world.observe()
        timeline.show(scene)
        now = time.monotonic()
        plan = _step_faults(world, timeline, plan, scene, now, felled)
        if is_complete(scene) and complete_at is None:
            complete_at = now
            timeline.say("the walk is complete: climbed, taken back, and climbed again")
        if world.stays and not scene.failure:
            time.sleep(LOOK_SECONDS)
            continue
        settled = is_settled(scene) and not is_at_work(scene)
        waited = now - complete_at if complete_at is not None else -1.0
        lingered = waited >= least and (waited > world.linger_seconds or settled)
        if lingered and not plan.to_come and not plan.killed:
            return scene, felled
        if scene.failure or not (scene.playing or is_at_work(scene)):
            timeline.say(scene.failure or "every dialogue has been played, and nothing more is being made")
            return scene, felled
        if now - began > limit_seconds:
            timeline.say(f"stopped after {limit_seconds:g} s: {reached_in_words(scene)}")
            return scene, felled
        time.sleep(LOOK_SECONDS)


def _step_faults(
    world: World, timeline: Timeline, plan: FaultPlan, scene: Scene, now: float, felled: list[Fault]
) -> FaultPlan:
    """Kill what is due, or note that what was killed is back."""
    if plan.killed:
        took = now - plan.killed_at
        back = world.is_back(plan.killed)
        if not back and took < GIVE_UP_SECONDS:
            return plan
        felled[-1] = msgspec.structs.replace(felled[-1], recovered_seconds=round(took, 1) if back else None)
        timeline.say(f"{plan.killed} {'is back after' if back else 'is not back after'} {in_words(took)}")
        return after_recovery(plan, now)
    part = next_to_kill(plan, scene, now)
    if not part:
        return plan
    try:
        detail = world.kill(part)
    except PilotageError as error:
        timeline.say(f"cannot kill {part} yet: {error}")
        return msgspec.structs.replace(plan, over_at=now)
    felled.append(Fault(part=part, killed_at=_now(), recovered_seconds=None, detail=detail))
    timeline.say(f"SIGKILL {part}: {detail}")
    return after_kill(plan, now)


def fault_table(felled: list[Fault]) -> Table:
    """What was killed, and how long it took to come back."""
    table = Table(title="faults", title_justify="left", box=None, padding=(0, 3, 0, 0))
    for column in ("killed", "at", "works again after", ""):
        table.add_column(column, header_style="dim")
    for fault in felled:
        took = "not before the end" if fault.recovered_seconds is None else in_words(fault.recovered_seconds)
        table.add_row(fault.part, fault.killed_at[11:19], took, fault.detail)
    return table


@contextmanager
def _signals_as_exceptions() -> Iterator[None]:
    """SIGINT and SIGTERM unwind the stack, so that `finally` ends what was started; a second one changes nothing."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise Interrupted(signal.Signals(number).name)

    former = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
