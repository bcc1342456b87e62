"""Groups of commands that need no installation: pages, texts, experiments, all of them files.

Each does its work in a module of its own, imported when it is called.
"""

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup


class DefaultCommand(TyperGroup):
    """A group whose first command needs no name."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that is named, else the first one."""
        if args and args[0] not in self.commands:
            args = [next(iter(self.commands)), *args]
        return super().resolve_command(ctx, args)


experiment = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Experiments: how large, and what came out.")


@experiment.command(name="analyse")
def experiment_analyse(
    table: Annotated[Path, typer.Argument(help="CSV or Parquet: a row a session or a customer")],
    customer: Annotated[str, typer.Option(help="column of who it was: the unit that was assigned")],
    arm: Annotated[str, typer.Option(help="column of the arm")],
    control: Annotated[str, typer.Option(help="the arm that others are held against")],
    metric: Annotated[str, typer.Option(help="column of what is compared; a customer's rows are added up")],
    treatment: Annotated[str, typer.Option(help="the other arm, where there are several")] = "",
    per: Annotated[str, typer.Option(help="column that divides it: a rate, by the ratio of sums")] = "",
    before: Annotated[str, typer.Option(help="column of the same from before the experiment (CUPED)")] = "",
    split: Annotated[str, typer.Option(help="how customers were to be shared: a=0.9,b=0.1 [default: alike]")] = "",
    confidence: Annotated[float, typer.Option(min=0.5, max=0.9999, help="of the intervals")] = 0.95,
    draws: Annotated[int, typer.Option(min=0, max=100_000, help="draw customers again so often, as a check")] = 0,
    seed: Annotated[int, typer.Option(help="of those draws")] = 1,
    planned: Annotated[int, typer.Option(min=0, help="customers at which the interval for many looks is tightest")] = 0,
    negative: Annotated[bool, typer.Option("--negative", help="numbers below 0 are no mistake")] = False,
    json: Annotated[bool, typer.Option("--json", help="the figures as JSON on standard output")] = False,
) -> None:
    """Two arms compared by customer: relative effect, interval, p, sample ratio, and what is wrong with the table.

    Left out and named: rows without customer or arm, rows whose number is none or negative, customers in two arms.
    """
    from pilotage.experiment.command import Request, analyse, describe

    found = analyse(
        Request(
            table, customer, arm, control, metric, treatment, per, before, split, 1 - confidence, draws, seed, planned,
            negative,
        )
    )  # fmt: skip
    typer.echo(found.to_json() if json else "\n".join(describe(found)))


@experiment.command(name="plan")
def experiment_plan(
    cv: Annotated[float, typer.Option(min=0.0, help="coefficient of variation of the metric by customer")] = 0.0,
    effect: Annotated[float, typer.Option(help="relative difference to find: -0.1")] = 0.0,
    power: Annotated[float, typer.Option(min=0.5, max=0.999)] = 0.8,
    alpha: Annotated[float, typer.Option(min=0.0001, max=0.5)] = 0.05,
    treated: Annotated[float, typer.Option(min=0.01, max=0.99, help="share of the customers in the treatment")] = 0.5,
    per_day: Annotated[float, typer.Option(min=0.0, help="new customers a day")] = 0.0,
    margin: Annotated[float, typer.Option(min=0.0, help="or: points that a score may be worse, with --sd")] = 0.0,
    sd: Annotated[float, typer.Option(min=0.0, help="its standard deviation")] = 0.0,
    published: Annotated[
        str, typer.Option(help="or: n_control,n_treatment,effect,low,high of a published result: its variation")
    ] = "",
) -> None:
    """How many customers an experiment takes; or what a published one implies."""
    from pilotage.experiment.command import describe_any_plan

    lines = describe_any_plan(cv, effect, power, alpha, treated, per_day, margin, sd, published)
    typer.echo("\n".join(lines))


anonymise = typer.Typer(
    cls=DefaultCommand,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Mask what is personal in texts. `anonymise IN OUT` is `anonymise file IN OUT`.",
)


@anonymise.command(name="file")
def anonymise_file(
    source: Annotated[Path, typer.Argument(help='JSON lines: {"id": …, "text": …}, perhaps "session"')],
    out: Annotated[Path, typer.Argument(help="the same with masks")],
    spans: Annotated[Path | None, typer.Option(help="what was found: {id, start, end, type} a line")] = None,
    model: Annotated[Path | None, typer.Option(help="another tagger than the one that comes with this")] = None,
    rules_alone: Annotated[bool, typer.Option("--rules-alone", help="no tagger: numbers and addresses alone")] = False,
    json: Annotated[bool, typer.Option("--json", help="the report as JSON on standard output")] = False,
) -> None:
    """Mask names, places, numbers and more: <NAME_A> stands for the same person throughout a session, and in no other.

    Looks through what it made once more: where something still stands, nothing is written and it ends with 3.
    """
    from pilotage.anonymise import describe, run_anonymise, to_json

    report = run_anonymise(source, out, spans, model, rules_alone)
    typer.echo(to_json(report) if json else "\n".join(describe(report, out)))
    raise typer.Exit(3 if report.leaks else 0)


@anonymise.command(name="train")
def anonymise_train(
    data: Annotated[list[Path], typer.Argument(help="annotated: presidio-research, MultiDoGO, or {id, text, spans}")],
    out: Annotated[Path, typer.Option(help="the model")],
    copies: Annotated[int, typer.Option(min=0, max=50, help="how often each text is learned with other values")] = 6,
    seed: Annotated[int, typer.Option(help="the same gives the same model")] = 1,
) -> None:
    """Train a tagger on annotated texts of your own."""
    from pilotage.anonymise import run_train

    typer.echo(f"{run_train(data, out, copies, seed)} texts learned: {out}")


screen = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Pages, as the gateway reads them.")


@screen.command(name="parse")
def screen_parse(
    page: Annotated[Path, typer.Argument(help="a page: HTML, UTF-8")],
    schemas: Annotated[Path | None, typer.Option(help="screen schemas: YAML or JSON (default: by ARIA roles)")] = None,
    json: Annotated[bool, typer.Option("--json", help="every field, as JSON")] = False,
) -> None:
    """A page as it is read: its controls with names, values and options, what is unknown, what is wrong."""
    from pilotage.screen import describe_screen, encode_screen, parse_file

    found = parse_file(page, schemas)
    typer.echo(encode_screen(found) if json else describe_screen(found))


SchemaFile = Annotated[Path, typer.Option(help="screen schemas: YAML or JSON")]


@screen.command(name="lint")
def screen_lint(
    pages: Annotated[Path, typer.Argument(help="a page, or a folder of pages")], schemas: SchemaFile
) -> None:
    """What schemas miss on pages: unknown and nameless controls, ids that several have, rules that match nothing.

    Ends with 1 where something is found.
    """
    from pilotage.screen import read_schema_file
    from pilotage.screen_checks import lint, read_pages

    found = list(lint(read_pages(pages), read_schema_file(schemas)))
    typer.echo("\n".join(found) or "nothing found")
    raise typer.Exit(1 if found else 0)


@screen.command(name="diff")
def screen_diff(
    before: Annotated[Path, typer.Argument(help="a page, or a folder of pages")],
    after: Annotated[Path, typer.Argument(help="the same of another release")],
    schemas: Annotated[Path | None, typer.Option(help="screen schemas: YAML or JSON (default: by ARIA roles)")] = None,
) -> None:
    """What another release of a user interface changed, as a model and the gate would see it.

    Ends with 1 where something is found.
    """
    from pilotage.screen import read_schema_file
    from pilotage.screen_checks import compare, read_pages

    known = read_schema_file(schemas) if schemas is not None else ()
    pages = [read_pages(path) for path in (before, after)]
    if before.is_file() and after.is_file():
        pages = [{before.name: next(iter(each.values()))} for each in pages]
    found = list(compare(pages[0], pages[1], known))
    typer.echo("\n".join(found) or "nothing found")
    raise typer.Exit(1 if found else 0)


audit = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Records: whether anything was changed or lost.")


@audit.callback()
def audit_group() -> None:
    """A group of one command, which still has a name."""


@audit.command(name="verify")
def audit_verify(
    database: Annotated[str, typer.Argument(help="a gateway's --database; it may be in use")],
    head: Annotated[Path | None, typer.Option(help="the last row that was known: a gateway's --chain-head")] = None,
    json: Annotated[bool, typer.Option("--json", help="rows, head and fault as JSON on standard output")] = False,
) -> None:
    """Every decision held against the one before it: changed, removed, reordered, lost. Ends with 1 where one is."""
    import msgspec

    from pilotage_gateway.public import verify_database

    found = verify_database(database, head)
    last = f"the last one number {found.head.number}, digest {found.head.digest}" if found.head else "none at all"
    words = (
        f"{found.rows} decisions are whole: {last}" if not found.fault else f"broken after {found.rows}: {found.fault}"
    )
    typer.echo(msgspec.json.encode(found).decode() if json else words)
    raise typer.Exit(1 if found.fault else 0)
