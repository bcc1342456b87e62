"""`pilotage-train ablate`: its options, handed on to ablations/, torch-free until then."""

from pathlib import Path
from typing import Annotated

import typer

from pilotage_core.errors import EvidenceError
from pilotage_trainer.commands.options import end_with_exit_code


def ablate(
    name: Annotated[str, typer.Argument(help="size, mix, critic, preference, snapshot, trim or oracle")],
    export: Annotated[str, typer.Option(help="a gateway's address, NDJSON, Parquet, a folder, star:PATH or desk:PATH")],
    out: Annotated[Path, typer.Option(help="results.json, table.md, plot.svg; begun before, it goes on")],
    config: Annotated[str, typer.Option(help="a Job's configuration: JSON, or a file")] = "",
    process_cluster: Annotated[str, typer.Option(help="namespace/name [default: all of the export]")] = "",
    since: Annotated[str, typer.Option(help="sessions closed from this time on (RFC 3339)")] = "",
    until: Annotated[str, typer.Option(help="sessions closed before this time")] = "",
    held_out_share: Annotated[float, typer.Option(help="the newest share, that arms are compared on")] = 0.1,
    seeds: Annotated[int, typer.Option(help="runs of each arm", min=1)] = 1,
    budget_tokens: Annotated[
        int, typer.Option(help="of each policy [default: the epochs of the first arm]", min=0, show_default=False)
    ] = 0,
    budget_seconds: Annotated[
        int, typer.Option(help="of each policy, instead of tokens", min=0, show_default=False)
    ] = 0,
    arms: Annotated[str, typer.Option(help="only these, with commas, and the first [default: all]")] = "",
) -> None:  # fmt: skip
    """Measure what one choice in training is worth: its arms on one split, with one budget, in a table and a plot.

    Arms that are finished are not run again; one that fails is named in the table. Exit code 3 where none was measured.
    """
    with end_with_exit_code():
        from pilotage_trainer.ablations.arms import find_ablation
        from pilotage_trainer.ablations.report import build_results, write_report, write_table
        from pilotage_trainer.ablations.running import run_arms
        from pilotage_trainer.ablations.study import AblationRequest, read_study

        study = read_study(
            AblationRequest(
                find_ablation(name).name, export, out, config, process_cluster, since, until, held_out_share, seeds,
                budget_tokens, budget_seconds, arms,
            )
        )  # fmt: skip
        results = build_results(study, *run_arms(study))
        write_report(results, study)
        typer.echo(write_table(results, study.ablation.kind))
        if not any(row.seeds for row in results.rows):
            raise EvidenceError("every arm failed", where=name, remedy="the table says why")
