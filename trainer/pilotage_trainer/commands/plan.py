"""`pilotage-train plan`: what training a policy would take, before it is started."""

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from pilotage_core.errors import InvalidInputError
from pilotage_trainer.commands.options import AsJson, Config, end_with_exit_code
from pilotage_trainer.config import read_config


def plan(
    dataset: Annotated[Path | None, typer.Option(help="a folder of `dataset`: sessions and tokens as it has")] = None,
    sessions: Annotated[int, typer.Option(help="without one: sessions that are learned from", min=0)] = 0,
    tokens_a_session: Annotated[int, typer.Option(help="on average", min=1)] = 2_600,
    targets_a_session: Annotated[int, typer.Option(help="tokens of actions, on average", min=1)] = 400,
    gpu: Annotated[str, typer.Option(help="H100, H200, A100, L40S, …")] = "H100",
    gpus: Annotated[int, typer.Option(help="of each node", min=1)] = 8,
    nodes: Annotated[int, typer.Option(min=1)] = 1,
    mfu: Annotated[float, typer.Option(help="share of the GPU's peak that is reached: assumed")] = 0.35,
    config: Config = "",
    as_json: AsJson = False,
) -> None:
    """Memory, disk, steps and hours of training a policy of backend transformers. Nothing is trained or downloaded
    but the base model's config.json."""
    with end_with_exit_code():
        from pilotage_trainer.backends.transformers.training import planning

        if (dataset is None) is (sessions == 0):
            raise InvalidInputError("either, and not both", where="--dataset, --sessions")
        settings = read_config(config)
        workload = (
            planning.read_workload(dataset)
            if dataset is not None
            else planning.Workload(sessions, tokens_a_session, targets_a_session)
        )
        devices = planning.Devices(gpu, gpus, nodes, mfu)
        made = planning.build_plan(settings, planning.find_model(settings), workload, devices)
    typer.echo(msgspec.json.format(msgspec.json.encode(made)).decode() if as_json else str(made))
