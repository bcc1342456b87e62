"""`pilotage-train pretrain`: its options, handed on to the backend that has base models."""

from pathlib import Path
from typing import Annotated

import typer

from pilotage_trainer.commands.options import Config, Processes, end_with_exit_code
from pilotage_trainer.config import read_config
from pilotage_trainer.launch import launch_processes
from pilotage_trainer.results import tell


def pretrain(
    text: Annotated[list[Path], typer.Option(help="a plain text file; give it several times for several")],
    out: Annotated[Path, typer.Option(help="the folder of the model that comes out: a baseModel")],
    max_tokens: Annotated[int, typer.Option(help="of a document and of a row", min=16)] = 4096,
    processes: Processes = 1,
    config: Config = "",
) -> None:
    """Go on pretraining the base model on plain text of the domain, before the policy (optional)."""
    launch_processes(processes)
    with end_with_exit_code():
        from pilotage_trainer.backends.transformers.policy.pretrain_job import run_pretrain

        run_pretrain(text, out, read_config(config), max_tokens)
    tell(f"{out} may be a baseModel now")
