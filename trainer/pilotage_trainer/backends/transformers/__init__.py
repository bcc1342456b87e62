"""Transformers: everything that imports torch, but for launch. Commands import it when they are asked for it.

rows      sessions as packed rows of tokens
training  the one loop, model, optimizer
asking    inference and export: a trained model answers
policy, critic  the Jobs
backend   all of it behind the one interface
"""

from pathlib import Path

from pilotage_trainer.artefact import Maker, digest_sources

NAME = "transformers"
SCORING_SOURCES = (
    "../rates.py",
    "rows/tokenizer.py",
    "asking/trunk.py",
    "asking/grammar.py",
    "asking/inference.py",
    "asking/critic_card.py",
)
"""What turns a prompt into a score."""


def find_maker() -> Maker:
    """This backend, and the identity of its code."""
    return Maker(NAME, digest_sources(Path(__file__).parent, SCORING_SOURCES))
