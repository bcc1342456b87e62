"""The `--feedback` form of `pilotage-train calibrate`: its options, which of them exclude the Job's, and its run.

Not here: the command itself (main.py). pyarrow is loaded only once a table is there to be read.
"""

from pathlib import Path
from typing import Annotated

import typer

from pilotage_trainer.forms import JOB_NEEDS, end_with_exit_code, list_given, name_option, name_options

PANEL = "Table of labels"
TABLE_OPTIONS = ("target", "delta", "strata", "monitor_from", "in_force", "as_json")

Feedback = Annotated[
    Path | None, typer.Option(help="labels of many gates: CSV (.gz too) or Parquet", rich_help_panel=PANEL)
]
Target = Annotated[
    list[str] | None,
    typer.Option(
        metavar="[STRATUM=]PRECISION",
        help="precision to certify, 0.9 unless told; with a stratum for that one alone; may be given often",
        show_default=False,
        rich_help_panel=PANEL,
    ),
]
Delta = Annotated[
    float,
    typer.Option(
        help="chance that any τ of a process cluster is wrong: shared evenly by its strata (the JSON says each share)",
        rich_help_panel=PANEL,
    ),
]
Strata = Annotated[
    int,
    typer.Option(
        help="strata that share delta, where a process cluster has more than the table shows [default: as shown]",
        show_default=False,
        rich_help_panel=PANEL,
    ),
]
MonitorFrom = Annotated[
    str,
    typer.Option(
        help="labels from this time on (RFC 3339) do not calibrate: R (precision alarm) and K (evidence for "
        "loosening τ) are replayed over them, for the τ in force",
        rich_help_panel=PANEL,
    ),
]
InForceFile = Annotated[
    Path | None,
    typer.Option(
        "--in-force",
        help="an earlier run's JSON: its τ are in force [default: what the labels before --monitor-from certify]; "
        "without --monitor-from every label is replayed, and calibrates anew as well",
        rich_help_panel=PANEL,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="a JSON list instead of a table", rich_help_panel=PANEL)]


def choose_form(context: typer.Context) -> bool:
    """Whether a table is meant and not a Job; ends with a usage error where the options say neither or both."""
    given = list_given(context) - {"feedback"}
    is_table = context.params["feedback"] is not None
    wrong = sorted(given - set(TABLE_OPTIONS) if is_table else given & set(TABLE_OPTIONS))
    if wrong:
        problem = "is the Job's and does not go with --feedback" if is_table else "goes with --feedback only"
        raise typer.BadParameter(problem, context, param_hint=name_option(wrong[0]))
    missing = [] if is_table else [name for name in JOB_NEEDS if name not in given]
    if missing:
        raise typer.BadParameter(
            "is missing (or give --feedback FILE alone)", context, param_hint=name_options(missing)
        )
    return is_table


def run_feedback(
    path: Path, target: list[str], delta: float, strata: int, monitor_from: str, in_force: Path | None, as_json: bool
) -> None:
    """Print what the table certifies; end with the exit code of what went wrong."""
    from pilotage_trainer.feedback.calibration import FeedbackRequest, calibrate_table
    from pilotage_trainer.feedback.report import build_json, build_table
    from pilotage_trainer.feedback.targets import read_targets

    with end_with_exit_code():
        results = calibrate_table(FeedbackRequest(path, read_targets(target), delta, strata, monitor_from, in_force))
    typer.echo(build_json(results) if as_json else build_table(results))
