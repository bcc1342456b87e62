"""`pilotage-train calibrate --feedback FILE`: a τ for every gate of anyone's table of labels.

pyarrow is loaded only once a table is there to be read.
"""

from pathlib import Path
from typing import Annotated

import typer

from pilotage_trainer.commands.options import AsJson, end_with_exit_code


def calibrate(
    feedback: Annotated[Path, typer.Option(help="labels of many gates: CSV (.gz too) or Parquet")],
    target: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[STRATUM=]PRECISION",
            help="precision to certify, 0.9 unless told; with a stratum for that one alone; may be given often",
            show_default=False,
        ),
    ] = None,
    delta: Annotated[
        float,
        typer.Option(
            help="chance that any τ of a process cluster is wrong: shared evenly by its strata (the JSON says each "
            "share)"
        ),
    ] = 0.05,
    attempt: Annotated[
        int | None,
        typer.Option(
            help="which attempt to certify these gates it is, counted from 1: the k-th gets delta / (k (k + 1)), so "
            "that all of them share it [default: the only one there will be]",
            show_default=False,
            min=1,
        ),
    ] = None,
    strata: Annotated[
        int,
        typer.Option(
            help="strata that share delta, where a process cluster has more than the table shows [default: as shown]",
            show_default=False,
        ),
    ] = 0,
    monitor_from: Annotated[
        str,
        typer.Option(
            help="labels from this time on (RFC 3339) do not calibrate: R (precision alarm) and K (evidence for "
            "loosening τ) are replayed over them, for the τ in force"
        ),
    ] = "",
    in_force: Annotated[
        Path | None,
        typer.Option(
            help="an earlier run's JSON: its τ are in force [default: what the labels before --monitor-from certify]; "
            "without --monitor-from every label is replayed, and calibrates anew as well"
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Certify a τ for each stratum of each process cluster of a table of labels.

    The table has the columns process_cluster, stratum, score in [0, 1], accepted (an unedited accept), propensity (the
    chance in (0, 1] with which the proposal was looked at: a label weighs 1 / propensity), operator, session_id and at.
    Labels without operator count as one more operator, the worst case; those without session_id as one session of their
    operator. Anything else that is empty or wrong stops the run and is named by its row. A time without offset is UTC.
    A column least_propensity may say the smallest propensity in force at the time: actions looked at so seldom that no
    label shows them are counted then. Without it the monitor takes the smallest of the gate's labels for all times.
    """
    from pilotage_core.certificate import find_attempt_share
    from pilotage_trainer.certify.table.calibration import TableRequest, calibrate_table
    from pilotage_trainer.certify.table.report import build_json, build_table
    from pilotage_trainer.certify.table.targets import read_targets

    with end_with_exit_code():
        wanted = read_targets(target or [])
        spent = delta * find_attempt_share(attempt) if attempt else delta
        results = calibrate_table(TableRequest(feedback, wanted, spent, strata, monitor_from, in_force))
    typer.echo(build_json(results) if as_json else build_table(results))
