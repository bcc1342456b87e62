"""`pilotage-train`: one command a phase, each ending with an exit code.

policy, critic, preference and certify write a JobResult and an artefact; a controller starts all but preference.

Metrics of a JobResult: policy: sessions, points, tool_accuracy, action_accuracy, … (measures/accuracy.py); critic:
labels, accept_rate, auroc, confidence_auroc, …; certify: n:<stratum>, accept_rate:<stratum>, coverage:<stratum>.
Exit codes: 0 done (`passed` may be false), 2 usage, 3 too little data, 4 one class only, 5 export or model server
unreachable, 6 artefact damaged, 7 disk, 8 a loss that is no number, 9 tokenizer splits accept or reject, 10 base model
cannot be loaded, 11 a worker died (failures.py), 143 asked to stop (SIGTERM).
"""

import typer

from pilotage_trainer.commands.ablate import ablate
from pilotage_trainer.commands.calibrate import calibrate
from pilotage_trainer.commands.certify import certify
from pilotage_trainer.commands.critic import critic
from pilotage_trainer.commands.dataset import dataset
from pilotage_trainer.commands.evaluate import evaluate
from pilotage_trainer.commands.plan import plan
from pilotage_trainer.commands.policy import policy
from pilotage_trainer.commands.preference import preference
from pilotage_trainer.commands.pretrain import pretrain
from pilotage_trainer.commands.rehearse import rehearse

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None, help=__doc__
)
for command in (plan, dataset, pretrain, policy, critic, certify, calibrate, rehearse, evaluate, preference, ablate):
    app.command()(command)


if __name__ == "__main__":
    app()
