"""A transformer's replies with every kind of confidence: what a served policy tells is one of them."""

from collections.abc import Sequence

from pilotage_core.errors import InvalidInputError
from pilotage_trainer.backend import AnyPolicy, Ask
from pilotage_trainer.evaluation_sessions import Reply
from pilotage_trainer.neural.readable import propose_readable
from pilotage_trainer.neural.served import ServedTransformerPolicy


def ask_transformer(policy: AnyPolicy, asks: Sequence[Ask]) -> list[Reply]:
    """The reply to each prompt, an empty one where that is too long. Raises InvalidInputError for other policies."""
    if not isinstance(policy, ServedTransformerPolicy):
        raise InvalidInputError("is no transformer", where="policy")
    return [
        Reply(one.reply, one.confidence, one.mean_probability, one.least_probability, one.whole_probability)
        if one
        else Reply("")
        for one in propose_readable(policy.policy, asks)
    ]
