"""TransformersBackend behind the one interface. Importing this imports no torch: each method does when it is asked."""

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from pilotage_core.wire import JobResult
from pilotage_trainer.artefact import Maker
from pilotage_trainer.backends.interface import AnyCritic, AnyPolicy, LearningOptions
from pilotage_trainer.backends.transformers import NAME, find_maker
from pilotage_trainer.config import JobConfig
from pilotage_trainer.window import Window

if TYPE_CHECKING:
    from pilotage_trainer.backends.transformers.asking.chooser import TransformerChooser


class TransformersBackend:
    """Learns in one process or several, on GPUs where there are some."""

    name = NAME

    def find_maker(self) -> Maker:
        """This backend, and the identity of its code."""
        return find_maker()

    def prepare(self, options: LearningOptions) -> None:
        """Starts `options.processes`, and returns in each of them."""
        from pilotage_trainer.launch import launch_processes

        launch_processes(options.processes)

    def learn_policy(self, window: Window, config: JobConfig, options: LearningOptions) -> JobResult:
        """Train a policy on the window, held-out sessions left out, within the time where one is given."""
        from pilotage_trainer.backends.transformers.policy.job import run_policy

        if options.time_budget_seconds:
            policy = config.transformers.policy.model_copy(update={"time_budget_seconds": options.time_budget_seconds})
            settings = config.transformers.model_copy(update={"policy": policy})
            config = msgspec.structs.replace(config, transformers=settings)
        return run_policy(window, config, options.dataset, options.start_from)

    def learn_critic(self, window: Window, config: JobConfig) -> JobResult:
        """Train a critic for the revision's policy, from its weights."""
        from pilotage_trainer.backends.transformers.critic.job import run_critic

        return run_critic(window, config)

    def open_policy(self, folder: Path) -> AnyPolicy:
        """The policy at `folder`, digests checked. Raises DamagedArtefactError."""
        from pilotage_trainer.backends.transformers.asking.served import ServedTransformerPolicy

        return ServedTransformerPolicy.load(folder)

    def open_critic(self, folder: Path) -> AnyCritic:
        """The critic at `folder`, digests checked. Raises DamagedArtefactError."""
        from pilotage_trainer.backends.transformers.asking.served import ServedTransformerCritic

        return ServedTransformerCritic.load(folder)

    def open_chooser(self, folder: Path) -> "TransformerChooser":
        """The policy at `folder`, on a GPU where there is one. Raises DamagedArtefactError, SplitLabelError."""
        from pilotage_trainer.backends.transformers.asking.chooser import load_chooser

        return load_chooser(folder)
