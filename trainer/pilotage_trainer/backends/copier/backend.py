"""Copiers behind the one interface. Jobs import scipy: each is imported when it is asked for."""

from pathlib import Path

import msgspec

from pilotage_core.wire import JobResult
from pilotage_trainer.artefact import Maker
from pilotage_trainer.backends.copier import NAME, find_maker
from pilotage_trainer.backends.copier.served import CopierChooser, ServedCritic, ServedPolicy, load_critic, load_policy
from pilotage_trainer.backends.interface import LearningOptions
from pilotage_trainer.backends.plain import refuse_options
from pilotage_trainer.config import JobConfig
from pilotage_trainer.window import Window


class CopierBackend:
    """Learns in this process, in minutes."""

    name = NAME

    def find_maker(self) -> Maker:
        """This backend, and the identity of its code."""
        return find_maker()

    def prepare(self, options: LearningOptions) -> None:
        """Nothing to start; raises InvalidInputError for any option but an earlier revision."""
        refuse_options(msgspec.structs.replace(options, start_from=""), NAME)

    def learn_policy(self, window: Window, config: JobConfig, options: LearningOptions) -> JobResult:
        """Fit a policy on the window, held-out sessions left out. Raises EvidenceError where there is too little."""
        from pilotage_trainer.backends.copier.policy_job import run_policy

        return run_policy(window, config, options.start_from)

    def learn_critic(self, window: Window, config: JobConfig) -> JobResult:
        """Fit a critic for the revision's policy. Raises EvidenceError, DamagedArtefactError."""
        from pilotage_trainer.backends.copier.critic_job import run_critic

        return run_critic(window, config)

    def open_policy(self, folder: Path) -> ServedPolicy:
        """The policy at `folder`, digests checked. Raises DamagedArtefactError."""
        return load_policy(folder)

    def open_critic(self, folder: Path) -> ServedCritic:
        """The critic at `folder`, digests checked. Raises DamagedArtefactError."""
        return load_critic(folder)

    def open_chooser(self, folder: Path) -> CopierChooser:
        """The policy at `folder`, asked for the best of what is offered. Raises DamagedArtefactError."""
        return CopierChooser(load_policy(folder).policy)
