"""`pilotage-train policy`: the policy Job."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from pilotage_trainer.backends.interface import LearningOptions
from pilotage_trainer.backends.open import BACKENDS, DEFAULT
from pilotage_trainer.commands.options import (
    BackendName,
    Config,
    Export,
    FreshAfter,
    HeldOutShare,
    Out,
    ProcessCluster,
    Processes,
    Result,
    Revision,
    Since,
    Until,
    end_with_exit_code,
    run_job,
)
from pilotage_trainer.window import Window


def policy(
    export: Export,
    process_cluster: ProcessCluster,
    revision: Revision,
    out: Out,
    since: Since = "",
    until: Until = "",
    fresh_after: FreshAfter = "",
    start_from: Annotated[str, typer.Option(help="an earlier revision: transformers and copiers go on from it")] = "",
    held_out_share: HeldOutShare = 0.0,
    config: Config = "",
    result: Result = None,
    backend: BackendName = DEFAULT,
    dataset: Annotated[
        Path | None, typer.Option(help="a folder of `dataset` [default: one is made of the sessions]")
    ] = None,
    processes: Processes = 1,
    time_budget_seconds: Annotated[
        int, typer.Option(help="the schedule ends within it [default: the configuration's]", min=0, show_default=False)
    ] = 0,
) -> None:
    """Learn what comes next from what operators did."""
    chosen = BACKENDS[backend]
    options = LearningOptions(dataset, start_from, processes, time_budget_seconds)
    with end_with_exit_code():
        chosen.prepare(options)
    window = partial(
        Window, export, process_cluster, revision, out, since, until, fresh_after, held_out_share=held_out_share
    )
    run_job(
        "policy", window, lambda sessions, settings: chosen.learn_policy(sessions, settings, options), config, result
    )
