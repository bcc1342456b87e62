"""`pilotage-train preference`: tunes a transformer on what operators overrode."""

from functools import partial
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from pilotage_core.training import PreferenceLoss
from pilotage_core.wire import JobResult
from pilotage_trainer.commands.options import (
    Config,
    Export,
    HeldOutAfter,
    HeldOutShareElse,
    Out,
    ProcessCluster,
    Result,
    Since,
    Until,
    run_job,
)
from pilotage_trainer.config import JobConfig
from pilotage_trainer.window import Window


def preference(
    export: Export,
    process_cluster: ProcessCluster,
    revision: Annotated[str, typer.Option(help="the new policy's: r1-dpo, …")],
    out: Out,
    policy: Annotated[Path, typer.Option(help="the folder of the policy that is tuned, and the reference")],
    loss: Annotated[PreferenceLoss | None, typer.Option(help="instead of the configuration's")] = None,
    replayed: Annotated[
        bool, typer.Option(help="also learn from its own proposals on sessions it has not seen")
    ] = False,
    since: Since = "",
    until: Until = "",
    held_out_after: HeldOutAfter = "",
    held_out_share: HeldOutShareElse = 0.0,
    config: Config = "",
    result: Result = None,
) -> None:
    """Tune a transformer on proposals that operators overrode (an ablation): DPO, APO-zero or APO-down."""
    from pilotage_trainer.backends.transformers.policy.preference_job import run_preference

    def job(window: Window, settings: JobConfig) -> JobResult:
        wanted = settings.preference.model_copy(update={"loss": loss or settings.preference.loss})
        return run_preference(window, msgspec.structs.replace(settings, preference=wanted), policy, replayed)

    times = (since, until, "", held_out_after)
    run_job(
        "policy", partial(Window, export, process_cluster, revision, out, *times, held_out_share), job, config, result
    )
