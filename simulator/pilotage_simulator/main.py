"""`pilotage-simulate`: play dialogues of STAR or of the desk against a gateway, or write them down as records."""

import asyncio
import signal
import time
from itertools import islice
from pathlib import Path
from typing import Annotated

import aiohttp
import msgspec
import typer

from pilotage_core.errors import InvalidInputError, PilotageError
from pilotage_simulator.adapter import Bpm
from pilotage_simulator.client import HttpGateway
from pilotage_simulator.desk.clerk import PEOPLE, PERFECT
from pilotage_simulator.desk.outcome import summarise
from pilotage_simulator.desk.play import play
from pilotage_simulator.desk.screens import SCHEMA as DESK_SCHEMA
from pilotage_simulator.desk.sgd import SCHEMA_FILE, LeftOut, read_dialogues, read_schema
from pilotage_simulator.desk.world import DeskWorld
from pilotage_simulator.ledger import Ledger, count_unsafe, mend_ledger, read_ledger
from pilotage_simulator.pacer import ControllerWishes, Pacer
from pilotage_simulator.people import AtConsole
from pilotage_simulator.plan import ChangePoint, Plan, read_plan
from pilotage_simulator.play import Played, Run, deal_cases, describe_assumptions
from pilotage_simulator.recording import ALL_DOMAINS, View, read_star_records
from pilotage_simulator.screens import SCHEMAS
from pilotage_simulator.star import find_star, load_star
from pilotage_simulator.worlds import StarWorld, World
from pilotage_simulator.written import write_records

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None, help=__doc__)


@app.callback()
def _commands() -> None:
    """A simulated BPM made from recorded dialogues."""


@app.command()
def run(
    gateway: Annotated[str, typer.Option(help="URL of the gateway")],
    plan: Annotated[Path, typer.Option(help="what to play, JSON or YAML (plan.py)")],
    ledger: Annotated[Path, typer.Option(help="the BPM's own record; dialogues named in it are not played again")],
    controller: Annotated[str, typer.Option(help="URL of the controller, to pace by; empty: always fast")] = "",
    star: Annotated[str, typer.Option(help="folder or file of dialogues; empty: STAR=, else the data set")] = "",
    desk: Annotated[
        Path | None, typer.Option(help="play the desk instead: dialogues.jsonl(.gz), with schema.json beside it")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="sessions to play at most")] = None,
    concurrency: Annotated[int | None, typer.Option(help="sessions at a time; default: the plan's")] = None,
    seed: Annotated[int, typer.Option(help="of the operators' draws")] = 7,
    token: Annotated[Path | None, typer.Option(help="file with the credential that the gateway knows us by")] = None,
    people: Annotated[int, typer.Option(help="sessions at a time whose cards wait for a person at the console")] = 0,
    change_cluster: Annotated[str, typer.Option(help="process cluster whose process changes")] = "",
    change_at: Annotated[int | None, typer.Option(help="from which of its sessions on, counted from 1")] = None,
) -> None:
    """Play a plan. SIGTERM or SIGINT ends it when the sessions that have begun are over."""
    try:
        chosen = _with_options(read_plan(plan), concurrency, change_cluster, change_at)
        world: World = DeskWorld(desk) if desk is not None else StarWorld(load_star(find_star(star or None)))
        asyncio.run(_run(gateway, controller, chosen, world, ledger, limit, seed, _read_token(token), people))
    except PilotageError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error


@app.command()
def record(
    out: Annotated[Path, typer.Argument(help="FILE.ndjson, FILE.ndjson.gz or FILE.parquet")],
    star: Annotated[str, typer.Option(help="folder or file of dialogues; empty: STAR=, else the data set")] = "",
    view: Annotated[View, typer.Option(help="the wizard's choices, or the work screen by screen")] = View.CHOICES,
    process_cluster: Annotated[str, typer.Option(help="namespace/name; a lane's name takes its domains")] = ALL_DOMAINS,
    limit: Annotated[int | None, typer.Option(help="sessions to write at most")] = None,
) -> None:
    """Write dialogues down as session records, as an export of a gateway would hold them; no gateway is needed."""
    try:
        records = islice(read_star_records(star, view, process_cluster), limit)
        typer.echo(f"{write_records(out, records)} sessions in {out}")
    except PilotageError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error


@app.command()
def desk(
    sgd: Annotated[Path, typer.Option(help="dialogues.jsonl or .jsonl.gz, with schema.json beside it")],
    sessions: Annotated[int | None, typer.Option(help="sessions to play at most")] = None,
    perfect: Annotated[bool, typer.Option(help="operators without haste and slips; else at stated rates")] = False,
    seed: Annotated[int, typer.Option(help="of the operators' draws")] = 7,
    as_json: Annotated[bool, typer.Option("--json", help="as JSON")] = False,
) -> None:
    """Play service dialogues at the desk with a simulated operator alone, and judge how they came out."""
    try:
        schema, left_out = read_schema(sgd.with_name(SCHEMA_FILE)), LeftOut()
        found = islice(read_dialogues(sgd, schema, left_out), sessions)
        manners = PERFECT if perfect else PEOPLE
        outcomes = [play(dialogue, schema, manners=manners, seed=seed) for dialogue in found]
        summary = summarise(outcomes, manners, left_out)
        typer.echo(msgspec.json.format(msgspec.json.encode(summary), indent=2).decode() if as_json else str(summary))
    except PilotageError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error


@app.command()
def schemas(at_desk: Annotated[bool, typer.Option("--desk", help="those of the desk")] = False) -> None:
    """Print the screen schemas of the simulated BPM as JSON (what a ConfigMap of screens holds)."""
    found = (DESK_SCHEMA,) if at_desk else SCHEMAS
    typer.echo(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())


@app.command()
def unsafe(ledger: Annotated[Path, typer.Argument(help="a ledger of the BPM")]) -> None:
    """Count critical actions that were executed without leave or twice."""
    try:
        typer.echo(str(count_unsafe(read_ledger(ledger))))
    except PilotageError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error


def _with_options(plan: Plan, concurrency: int | None, change_cluster: str, change_at: int | None) -> Plan:
    if concurrency is not None:
        plan = msgspec.structs.replace(plan, concurrency=concurrency)
    if change_at is None:
        return plan
    lanes = tuple(
        msgspec.structs.replace(lane, change=ChangePoint(at=change_at))
        if change_cluster in (lane.process_cluster, lane.process_cluster.rpartition("/")[2])
        else lane
        for lane in plan.lanes
    )
    return msgspec.structs.replace(plan, lanes=lanes)


def _read_token(path: Path | None) -> str:
    try:
        return path.read_text().strip() if path is not None else ""
    except OSError as error:
        raise InvalidInputError(f"cannot be read: {error.strerror}", where=f"--token {path}") from error


async def _run(
    gateway: str,
    controller: str,
    plan: Plan,
    world: World,
    ledger_path: Path,
    limit: int | None,
    seed: int,
    token: str,
    people: int = 0,
) -> None:
    began = time.monotonic()
    mend_ledger(ledger_path)
    played = Played(read_ledger(ledger_path))
    cases, skipped = deal_cases(world, plan, played, limit)
    dealt = ", ".join(f"{key}: {len(found)}" for key, found in cases.items())
    print(f"{dealt} dialogues to play; {len(played.dialogues)} played before, {skipped} with too little in them")
    print(describe_assumptions(plan), flush=True)
    ledger = Ledger(ledger_path)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=plan.concurrency + 2)) as http:
        bpm = Bpm(
            gateway=HttpGateway(gateway, http, token),
            ledger=ledger,
            seed=seed,
            accept_later_probability=plan.accept_later_probability,
            look_seconds=plan.look_seconds,
            accept_seconds=plan.accept_seconds,
            used_keys=played.used_keys,
            highest_epoch=played.highest_epoch,
        )
        listening = None
        if people:
            bpm.people = at_console = AtConsole(gateway, http, people, token)
            listening = asyncio.create_task(at_console.run())
        pacer = Pacer(ControllerWishes(controller, http) if controller else None)
        run_of_plan = Run(bpm, plan, pacer, cases, played)
        loop = asyncio.get_running_loop()
        for signal_number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signal_number, run_of_plan.stop)
        try:
            await run_of_plan.close_abandoned(played.left_open)
            await run_of_plan.play()
        finally:
            if listening is not None:
                listening.cancel()
            ledger.close()
    print(f"\n{run_of_plan.describe()}")
    print(f"{time.monotonic() - began:.1f} s, {time.process_time():.1f} s of CPU", flush=True)


if __name__ == "__main__":
    app()
