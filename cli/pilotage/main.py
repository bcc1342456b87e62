"""`pilotage`, also installed as `kubectl pilotage`: the commands and their options.

Each does its work in a module of its own, imported when it is called: `pilotage --help` has to be quick.
"""

from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from pilotage.offline import anonymise, audit, experiment, screen
from pilotage_core.errors import InvalidInputError, PilotageError


class Commands(TyperGroup):
    """Errors that a user can mend are one line on standard error and exit code 2."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except PilotageError as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(2) from error


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode=None,  # rich's help costs 0.3 s
    add_completion=False,
    pretty_exceptions_enable=False,
    help="A language model earns the right to act one step at a time, and loses it within seconds.",
)

app.add_typer(experiment, name="experiment")
app.add_typer(anonymise, name="anonymise")
app.add_typer(screen, name="screen")
app.add_typer(audit, name="audit")

OUT_LOCAL, OUT_KUBERNETES = Path("out/demo-local"), Path("out/demo")

Local = Annotated[bool, typer.Option("--local", help="the run of `demo --local`, not Kubernetes")]
RunFolder = Annotated[Path | None, typer.Option("--run", help="folder of a run (default: out/demo or out/demo-local)")]
GatewayUrl = Annotated[str, typer.Option("--gateway", envvar="PILOTAGE_GATEWAY", help="URL of the gateway")]
GatewayUrls = Annotated[
    list[str] | None,
    typer.Option("--gateway", envvar="PILOTAGE_GATEWAY", help="URL of a gateway; one for each replica"),
]
Who = Annotated[str, typer.Option(envvar="USER", help="who says so: kept in the records")]
Why = Annotated[str, typer.Option(help="why: kept in the records")]
NO_REASON = "no reason given"
SEATS = 3
"""Sessions at a time that wait for a person in `demo --console`."""


@app.command()
def status(local: Local = False, run: RunFolder = None) -> None:
    """All process clusters: stage, τ, precision, what holds them, what is missing."""
    from pilotage.place import find_place
    from pilotage.status import print_table

    place = find_place(local, _folder(local, run))
    print_table(place.process_clusters(), place.now())


@app.command()
def explain(
    name: Annotated[str, typer.Argument(help="a process cluster (name or namespace/name), or the id of a proposal")],
    local: Local = False,
    run: RunFolder = None,
    gateway: GatewayUrl = "",
    database: Annotated[str, typer.Option(help="a decision from the records themselves: a gateway's --database")] = "",
) -> None:
    """Why a process cluster is where it is, in words and numbers; or why the gate decided as it did, line by line."""
    if database:
        from pilotage.place import explain_stored

        return typer.echo(explain_stored(database, name))
    from pilotage.place import explain_anything, find_place

    typer.echo(explain_anything(find_place(local, _folder(local, run), gateway), name))


@app.command()
def suspend(
    name: Annotated[str, typer.Argument(help="namespace/name of a process cluster")],
    who: Who,
    why: Why = NO_REASON,
    local: Local = False,
    run: RunFolder = None,
    gateway: GatewayUrl = "",
) -> None:
    """Stop one process cluster at once, at the gateway: it works with every controller dead. `resume` lifts it."""
    _suspend(local, run, gateway, name, True, who, why)


@app.command()
def resume(
    who: Who,
    name: Annotated[str, typer.Argument(help="namespace/name of a process cluster; * after a stop-all")] = "*",
    why: Why = NO_REASON,
    local: Local = False,
    run: RunFolder = None,
    gateway: GatewayUrls = None,
) -> None:
    """Lift a suspend or a stop-all. A stage that was lost meanwhile has to be earned again."""
    if name == "*":
        _suspend_everything(local, run, gateway, False, who, why)
    failed = False
    for url in gateway or [""]:
        try:
            _suspend(local, run, url, name, False, who, why)
        except PilotageError as error:
            failed = True
            typer.echo(f"error: {error}", err=True)
    raise typer.Exit(1 if failed else 0)


@app.command()
def conformance(
    serve: Annotated[str, typer.Option("--serve", metavar="HOST:PORT", help="where an adapter finds this gateway")],
    control: Annotated[str, typer.Option(help="the control_id of an input to fill in (default: the first)")] = "",
    silence: Annotated[float, typer.Option(help="seconds without a post until it is over")] = 20.0,
) -> None:
    """Play the gateway to an adapter, and say where it breaks the contract: it fills in one input of a case."""
    import asyncio

    from pilotage.conformance import describe
    from pilotage.conformance_server import hear_adapter

    host, _, port = serve.rpartition(":")
    if not host or not port.isdecimal():
        raise InvalidInputError(f"{serve!r} is no address", where="--serve", remedy="give HOST:PORT")

    def ready(address: str) -> None:
        typer.echo(f"the gateway is at {address}: open one session there", err=True)

    try:
        conductor = asyncio.run(hear_adapter(host, int(port), control, silence, ready))
    except OSError as error:
        raise InvalidInputError(str(error), where=f"--serve {serve}", remedy="give an address that is free") from error
    for line in describe(conductor):
        typer.echo(line)
    raise typer.Exit(1 if conductor.findings else 0)


@app.command(name="stop-all")
def stop_all(
    who: Who, why: Why = NO_REASON, local: Local = False, run: RunFolder = None, gateway: GatewayUrls = None
) -> None:
    """Stop every process cluster at every replica of the gateway, at once; `resume` lifts it.

    Prints how long it took until the last one refused. Ends with 1 where a replica was not reached.
    """
    _suspend_everything(local, run, gateway, True, who, why)


@app.command()
def report(
    json: Annotated[bool, typer.Option("--json", help="the figures as JSON on standard output")] = False,
    local: Local = False,
    run: RunFolder = None,
) -> None:
    """The report of a finished run, from its stored records alone: report.html and report.json in its folder."""
    from pilotage.report.write import write_report

    folder = _folder(local, run)
    figures = write_report(folder)
    typer.echo(figures.decode() if json else f"{folder / 'report.html'}")


@app.command()
def replay(
    tau: Annotated[float, typer.Option(min=0.0, max=1.0, help="the threshold to try")],
    name: Annotated[str, typer.Argument(help="a process cluster; all of them if left out")] = "",
    local: Local = False,
    run: RunFolder = None,
    since: Annotated[str, typer.Option(help="proposals from then on: 2026-12-01, or a time")] = "",
) -> None:
    """What another τ would have done with the proposals of a run."""
    from pilotage.replay import describe
    from pilotage.run import read_run

    for key, sessions in read_run(_folder(local, run)).sessions.items():
        if name in ("", key, key.partition("/")[2]):
            typer.echo(f"{key}\n{describe(sessions, tau, since)}")


@app.command()
def forecast(
    logs: Annotated[str, typer.Argument(help="an export (NDJSON, Parquet), or dialogues in STAR's format")],
    process_cluster: Annotated[str, typer.Option(help="namespace/name (default: all sessions together)")] = "",
    target: Annotated[
        list[float] | None,
        typer.Option(help="a precision to certify; may be given often [default: 0.8, 0.85, 0.9, 0.93, 0.95, 0.97]"),
    ] = None,
    delta: Annotated[float, typer.Option(help="chance that any τ is wrong, shared by the strata")] = 0.05,
    config: Annotated[
        str, typer.Option(help="a training Job's configuration, for its action rules: JSON or file")
    ] = "",
    out: Annotated[Path, typer.Option(help="the page")] = Path("out/forecast.html"),
    json: Annotated[bool, typer.Option("--json", help="the figures as JSON on standard output")] = False,
) -> None:
    """What a history of sessions promises, before any Kubernetes: what could be certified, and what is missing."""
    from pilotage.forecast.page import run_forecast

    run_forecast(logs, process_cluster, tuple(target or ()), delta, config, out, json)


@app.command()
def diff(
    manifests: Annotated[str, typer.Argument(help="a kustomize folder, a YAML file, or - for standard input")],
    against: Annotated[str, typer.Option(help="other manifests, in place of what the current Kubernetes has")] = "",
) -> None:
    """What manifests would change, and what that would do to each process cluster, with the evidence.

    Ends with 0 where nothing would change, with 1 where something would.
    """
    from pilotage.diff import run_diff

    lines, differs = run_diff(manifests, against)
    typer.echo("\n".join(lines))
    raise typer.Exit(1 if differs else 0)


@app.command()
def demo(
    local: Annotated[bool, typer.Option("--local", help="as plain local processes: no Kubernetes, no root")] = False,
    data: Annotated[
        str,
        typer.Option(
            help="desk: in closed loop; star: replayed [default: desk; star with --star or --faults]",
            show_default=False,
        ),
    ] = "",
    sgd: Annotated[Path | None, typer.Option(help="the desk's dialogues; default: SGD=, else the data set")] = None,
    star: Annotated[Path | None, typer.Option(help="other dialogues in STAR's format (file or folder)")] = None,
    faults: Annotated[bool, typer.Option("--faults", help="SIGKILL every part in turn during the run")] = False,
    console: Annotated[
        bool, typer.Option("--console", help="answer cards yourself at a console; stays until you end it (--local)")
    ] = False,
    run: RunFolder = None,
    plan: Annotated[
        str,
        typer.Option(
            help="what to play: desk, small, full, transformers, or a file [default: desk at the desk, of STAR small "
            "with --local, else full]"
        ),
    ] = "",
    manifests: Annotated[
        Path | None, typer.Option(help="the process clusters and gates, for --local [default: examples/DATA]")
    ] = None,
    limit_seconds: Annotated[
        float,
        typer.Option(
            help="stop playing after this time, whatever was reached [default: 240 with --local, else 600; 60 more "
            "with --faults; at the desk 900]",
            show_default=False,
        ),
    ] = 0.0,
) -> None:
    """The main job on real dialogues, from logs to automation, breach and back, ending in a report."""
    from pilotage.demo.command import choose_dialogues, demo_command

    folder = run or (OUT_LOCAL if local else OUT_KUBERNETES)
    dialogues = choose_dialogues(data or ("star" if star or faults else "desk"), sgd, star)
    people = SEATS if console else 0
    raise typer.Exit(demo_command(local, folder, dialogues, faults, plan, manifests, limit_seconds, people))


@app.command()
def console(
    run: RunFolder = None,
    listen: Annotated[str, typer.Option(metavar="HOST:PORT", help="where; on loopback nobody has to sign in")] = "",
) -> None:
    """The console on the records of a run of `demo --local`: nothing acts in it any more."""
    from pilotage.look import look_around

    look_around(run or OUT_LOCAL, listen or "127.0.0.1:8090", typer.echo)


def _suspend_everything(
    local: bool, run: Path | None, gateway: list[str] | None, suspended: bool, who: str, why: str
) -> NoReturn:
    from pilotage.place import find_place
    from pilotage.stop import suspend_everything

    urls = gateway or ([find_place(local, _folder(local, run)).gateway().url] if local else [])
    lines, is_whole = suspend_everything(urls, suspended, who, why)
    typer.echo("\n".join(lines))
    raise typer.Exit(0 if is_whole else 1)


def _suspend(local: bool, run: Path | None, gateway: str, name: str, suspended: bool, who: str, why: str) -> None:
    from pilotage.place import find_place

    place = find_place(local, _folder(local, run), gateway)
    place.gateway().suspend(name, suspended, who, why)
    typer.echo(f"{'stopped' if suspended else 'let go on'}: {name}")


def _folder(local: bool, run: Path | None) -> Path:
    return run or (OUT_LOCAL if local else OUT_KUBERNETES)


if __name__ == "__main__":
    app()
