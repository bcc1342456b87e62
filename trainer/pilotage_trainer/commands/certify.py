"""`pilotage-train certify`: the calibration Job."""

from datetime import UTC, datetime
from functools import partial
from typing import Annotated

import typer

from pilotage_core.errors import InvalidInputError
from pilotage_core.wire import JobResult
from pilotage_trainer.commands.options import (
    Config,
    Export,
    HeldOutAfter,
    Out,
    ProcessCluster,
    Result,
    Revision,
    Since,
    Until,
    run_job,
)
from pilotage_trainer.config import JobConfig
from pilotage_trainer.window import Window


def certify(
    export: Export,
    process_cluster: ProcessCluster,
    revision: Revision,
    out: Out,
    since: Since = "",
    until: Until = "",
    held_out_after: HeldOutAfter = "",
    policy_url: Annotated[str, typer.Option(help="where the revision's policy is served")] = "",
    critic_url: Annotated[str, typer.Option(help="where the revision's critic is served")] = "",
    local: Annotated[bool, typer.Option(help="score in this process: a quick look, not for certificates")] = False,
    config: Config = "",
    result: Result = None,
) -> None:
    """Certify a τ for each stratum on held-out sessions, with the served models' scores."""
    from pilotage_trainer.certify.job import run_certify

    def job(window: Window, settings: JobConfig) -> JobResult:
        if local == bool(policy_url and critic_url):
            raise InvalidInputError(
                "scores come from two served models, or from this process",
                where="options",
                remedy="give --policy-url and --critic-url, or --local",
            )
        urls = None if local else (policy_url, critic_url)
        return run_certify(window, settings, urls, datetime.now(UTC).isoformat())

    window = partial(Window, export, process_cluster, revision, out, since, until, held_out_after=held_out_after)
    run_job("calibration", window, job, config, result)
