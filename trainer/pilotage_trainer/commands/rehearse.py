"""`pilotage-train rehearse`: trials played with a policy, an operator beside it; what they said of it, as records."""

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from pilotage_trainer.commands.options import (
    Config,
    Since,
    Until,
    end_with_exit_code,
)
from pilotage_trainer.config import read_config
from pilotage_trainer.results import require_writable, tell


def rehearse(
    desk: Annotated[str, typer.Option(help="dialogues of the desk (a file), or NAME:PATH of other trials")],
    policy: Annotated[Path, typer.Option(help="the folder of a policy, of any backend")],
    out: Annotated[Path, typer.Option(help="the records: FILE.ndjson")],
    process_cluster: Annotated[str, typer.Option(help="namespace/name that the records are of")] = "desk/all",
    since: Since = "",
    until: Until = "",
    sessions: Annotated[int | None, typer.Option(help="sessions to play at most", min=1)] = None,
    copilot_share: Annotated[
        float, typer.Option(help="share in which all is confirmed; in the others nobody repairs anything", min=0, max=1)
    ] = 0.5,
    config: Config = "",
) -> None:
    """Play trials with a policy and write down what an operator thinks of each proposal: what a critic learns from."""
    from pilotage_core.record import read_labels
    from pilotage_core.score import CONFIDENCE_ALONE
    from pilotage_trainer.backends.open import find_artefact, open_policy
    from pilotage_trainer.trials.evaluation import choose_trials, count_trials
    from pilotage_trainer.trials.record import build_record
    from pilotage_trainer.trials.source import read_trials
    from pilotage_trainer.trials.worker import COPILOT, UNGATED, Pair, PairWorker

    with end_with_exit_code():
        require_writable(out)
        pair = Pair(open_policy(find_artefact(policy, "policy")), None, CONFIDENCE_ALONE)
        chosen = choose_trials(read_trials(desk, process_cluster), since, until, sessions)
        rules = read_config(config).rules if config else chosen[0].rules
        right = labels = 0
        with out.open("wb") as file:
            for number, trial in enumerate(count_trials(chosen, "rehearsed")):
                in_copilot = int((number + 1) * copilot_share) > int(number * copilot_share)
                worker = PairWorker(pair, rules, COPILOT if in_copilot else UNGATED, trial.trial_id)
                right += trial.play(worker).is_right
                record = build_record(worker, trial, process_cluster)
                labels += len(read_labels(record))
                file.write(msgspec.json.encode(record) + b"\n")
        tell(f"{len(chosen)} sessions in {out}, {labels} labels; {right} of them ended right")
