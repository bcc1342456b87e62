"""`pilotage-train critic`: the critic Job."""

from functools import partial

from pilotage_trainer.backends.interface import LearningOptions
from pilotage_trainer.backends.open import BACKENDS, DEFAULT
from pilotage_trainer.commands.options import (
    BackendName,
    Config,
    Export,
    FreshAfter,
    HeldOutAfter,
    HeldOutShareElse,
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


def critic(
    export: Export,
    process_cluster: ProcessCluster,
    revision: Revision,
    out: Out,
    since: Since = "",
    until: Until = "",
    fresh_after: FreshAfter = "",
    held_out_after: HeldOutAfter = "",
    held_out_share: HeldOutShareElse = 0.0,
    config: Config = "",
    result: Result = None,
    backend: BackendName = DEFAULT,
    processes: Processes = 1,
) -> None:
    """Learn which proposals of the revision's policy operators accept."""
    chosen = BACKENDS[backend]
    with end_with_exit_code():
        chosen.prepare(LearningOptions(processes=processes))
    times = (since, until, fresh_after, held_out_after)
    window = partial(Window, export, process_cluster, revision, out, *times, held_out_share)
    run_job("critic", window, chosen.learn_critic, config, result)
