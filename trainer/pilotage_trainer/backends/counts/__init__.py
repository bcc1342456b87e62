"""Count models: back-off counts with a log-linear part, and a logistic critic. numpy and scipy, no torch.

features, schema, examples   traits of a situation; what a request allows; what is learned from
counts, policy, critic       the models; fitted in policy_training, critic_training
policy_job, critic_job       the Jobs
served, chooser              what they answer
backend                      all of it behind the one interface
"""

from pathlib import Path

from pilotage_trainer.artefact import Maker, digest_sources

NAME = "counts"
SCORING_SOURCES = (
    "../../sessions/steps.py",
    "../rates.py",
    "schema.py",
    "../situation.py",
    "features.py",
    "counts.py",
    "policy.py",
    "critic.py",
)
"""What turns a prompt into a score."""


def find_maker() -> Maker:
    """This backend, and the identity of its code."""
    return Maker(NAME, digest_sources(Path(__file__).parent, SCORING_SOURCES))
