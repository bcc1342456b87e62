"""`pilotage-train evaluate`: a policy on sessions, or on STAR; which options go with which."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from pilotage_trainer.commands.options import (
    AnyProcessCluster,
    AsJson,
    Config,
    Export,
    HeldOutAfter,
    Since,
    Until,
    end_with_exit_code,
    list_given,
    name_option,
    name_options,
)
from pilotage_trainer.evaluation.request import SAMPLE, SessionsRequest
from pilotage_trainer.results import require_writable
from pilotage_trainer.trials.request import TrialsRequest


class Form(StrEnum):
    """What a policy is evaluated on."""

    SESSIONS = "sessions"
    STAR = "star"
    DESK = "desk"


NEEDS: dict[Form, tuple[str, ...]] = {
    Form.SESSIONS: ("policy", "export"),
    Form.STAR: ("star", "policy"),
    Form.DESK: ("desk", "policy"),
}
ALSO: dict[Form, tuple[str, ...]] = {
    Form.STAR: ("as_json",),
    Form.DESK: ("as_json", "critic", "process_cluster", "since", "until", "config", "target", "delta", "sessions"),
}
"""Options that go with a form beside what it needs; sessions take all that are no other's."""
ONLY_DESK = ("target", "delta", "sessions")


def evaluate(
    context: typer.Context,
    policy: Annotated[Path, typer.Option(help="the folder of a policy, of any backend")],
    export: Export = "",
    star: Annotated[
        Path | None, typer.Option(help="dialogues in STAR's format (.jsonl, .jsonl.gz, or a folder)")
    ] = None,
    desk: Annotated[
        str, typer.Option(help="dialogues of the desk (a file), or NAME:PATH of other trials: in closed loop")
    ] = "",
    process_cluster: AnyProcessCluster = "",
    since: Since = "",
    until: Until = "",
    held_out_after: HeldOutAfter = "",
    config: Config = "",
    critic: Annotated[Path | None, typer.Option(help="the folder of its critic, judged as well")] = None,
    report: Annotated[Path | None, typer.Option(help="an HTML page with plots")] = None,
    likeness: Annotated[
        float, typer.Option(help="Levenshtein likeness from which texts count as the same", min=0, max=1)
    ] = 0.8,
    zero_shot: Annotated[
        str, typer.Option(help="an OpenAI-compatible endpoint (…/v1): a general model as baseline")
    ] = "",
    model: Annotated[str, typer.Option(help="its name at that endpoint")] = "",
    sample: Annotated[int, typer.Option(help="points the general model is asked at", min=1)] = SAMPLE,
    target: Annotated[float, typer.Option(help="share of unattended sessions that end right", min=0, max=1)] = 0.95,
    delta: Annotated[float, typer.Option(help="chance that the session certificate is wrong", min=0, max=1)] = 0.05,
    sessions: Annotated[int | None, typer.Option(help="trials at most", min=1)] = None,
    as_json: AsJson = False,
) -> None:
    """Measure a policy on sessions it has not seen, on STAR's published measure, or in closed loop at the desk.

    One of --export (accuracies, confidence, --critic, --zero-shot, slices; --report for a page), --star and --desk
    (sessions with nobody asked, how they end, τ and certificate from every other trial, figures on the rest).
    """
    form = choose_form(context)
    if form is Form.STAR and star is not None:
        run_star_command(star, policy, as_json)
        return
    if form is Form.DESK:
        run_desk_command(
            TrialsRequest(desk, policy, critic, process_cluster, since, until, config, sessions, target, delta), as_json
        )
        return
    request = SessionsRequest(
        export, policy, process_cluster, since, until, held_out_after, config, critic,
        likeness, zero_shot, model, sample,
    )  # fmt: skip
    run_sessions_command(request, report, as_json)


def choose_form(context: typer.Context) -> Form:
    """Which form is meant; ends with a usage error where options are missing or do not go together."""
    given = list_given(context)
    form = next((form for form in (Form.STAR, Form.DESK) if form.value in given), Form.SESSIONS)
    wrong = given - {*NEEDS[form], *ALSO[form]} if form in ALSO else given.intersection(ONLY_DESK)
    if wrong:
        name = f"--{form.value}" if form in ALSO else "sessions of an export"
        raise typer.BadParameter(f"does not go with {name}", context, param_hint=name_option(min(wrong)))
    if missing := [name for name in NEEDS[form] if name not in given]:
        other = " (or give --star FILE or --desk FILE)" if form is Form.SESSIONS else ""
        raise typer.BadParameter(f"is missing{other}", context, param_hint=name_options(missing))
    return form


def run_star_command(star: Path, policy: Path, as_json: bool) -> None:
    """Print STAR's measures; end with the exit code of what went wrong."""
    from pilotage_trainer.evaluation.star import run_star

    with end_with_exit_code():
        report = run_star(star, policy)
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(report)).decode())
        return
    typer.echo(f"{'set':<10}{'accuracy':>10}{'weighted F1':>13}{'coverage at 0.9':>17}{'points':>9}{'dialogues':>11}")
    for name, scores in (("standard", report.standard), ("all", report.all)):
        typer.echo(
            f"{name:<10}{scores.accuracy:>10.3f}{scores.weighted_f1:>13.3f}{scores.coverage:>17.3f}"
            f"{scores.n:>9}{scores.dialogues:>11}"
        )


def run_desk_command(request: TrialsRequest, as_json: bool) -> None:
    """Print how trials came out; end with the exit code of what went wrong."""
    from pilotage_trainer.trials.evaluation import run_trials

    with end_with_exit_code():
        found = run_trials(request)
    typer.echo(msgspec.json.format(msgspec.json.encode(found)).decode() if as_json else str(found))


def run_sessions_command(request: SessionsRequest, report: Path | None, as_json: bool) -> None:
    """Print the evaluation and write its page; end with the exit code of what went wrong."""
    from pilotage_trainer.evaluation.run import describe, run_evaluation

    with end_with_exit_code():
        if report is not None:
            require_writable(report)
        found = run_evaluation(request)
        if report is not None:
            from pilotage_trainer.evaluation.page import build_page

            report.write_text(build_page(found), encoding="utf-8")
    typer.echo(msgspec.json.format(msgspec.json.encode(found)).decode() if as_json else "\n".join(describe(found)))
