"""The copier: linear models that hear what a customer's turn calls for and which of its words are typed, and rank what
may come next. All nine tools; values are copied from what was said or shown, or chosen. numpy and scipy, no torch.

hearing, linear              words and n-grams; a linear model as stored
calls, spans                 what a turn calls for; what of it is typed, and where
values, candidates, ranking  what may stand in a field; what may come next, in keys and tokens; their weights
policy, critic               the models; fitted in fitting, policy_training, critic_training
lessons                      what is learned from
policy_job, critic_job       the Jobs
served                       what they answer
backend                      all of it behind the one interface
"""

from pathlib import Path

from pilotage_trainer.artefact import Maker, digest_sources

NAME = "copier"
SCORING_SOURCES = (
    "../situation.py",
    "hearing.py",
    "linear.py",
    "calls.py",
    "spans.py",
    "values.py",
    "candidates.py",
    "ranking.py",
    "policy.py",
    "critic.py",
)
"""What turns a prompt into a score."""


def find_maker() -> Maker:
    """This backend, and the identity of its code."""
    return Maker(NAME, digest_sources(Path(__file__).parent, SCORING_SOURCES))
