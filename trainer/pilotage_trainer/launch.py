"""Starting the processes that train together on one machine, and telling how they ended. torchrun's own agent does it.

Under torchrun or `accelerate launch` nothing is started: the processes are there. The exit code is that of the process
that failed first, 11 where one was killed, or 143 where all were asked to stop.
"""

import os
import signal
import sys

from pilotage_core.job_exit import JobExit
from pilotage_trainer.results import tell


def launch_processes(processes: int) -> None:
    """Run this very command in `processes` processes and exit with how they ended; return in each of them."""
    if processes == 1 or "RANK" in os.environ:
        return
    sys.exit(run_workers([sys.argv[0], *sys.argv[1:]], processes))


def run_workers(command: list[str], processes: int) -> int:
    """Run `command` in `processes` processes that know of each other; the exit code of it all.

    SIGTERM is handed on to them, and they have TORCH_ELASTIC_SHUTDOWN_TIMEOUT seconds (torch's own 30) to save.
    """
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        rdzv_backend="c10d",
        rdzv_endpoint="127.0.0.1:0",
        max_restarts=0,
        monitor_interval=0.2,
    )
    try:
        elastic_launch(config, sys.executable)("-u", *command)
    except SignalException as stop:
        tell(f"stopped by {stop.sigval.name}; start again to go on from the checkpoint")
        return 128 + int(stop.sigval)
    except ChildFailedError as error:
        rank, first = error.get_first_failure()
        if first.exitcode < 0:
            name = signal.Signals(-first.exitcode).name
            tell(f"worker {rank} (process {first.pid}) was killed by {name}; start again to go on from the checkpoint")
            return int(JobExit.WORKER_DIED)
        tell(f"worker {rank} (process {first.pid}) failed with exit code {first.exitcode}; the others were stopped")
        return int(first.exitcode)
    return 0
