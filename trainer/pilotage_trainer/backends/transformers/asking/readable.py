"""Asking a policy about many sessions, some of whose prompts may be longer than what its model reads.

A server refuses those, so that nothing is proposed there: one such session is no reason to end a Job.
"""

from collections.abc import Sequence

from pilotage_trainer.backends.interface import Ask
from pilotage_trainer.backends.transformers.asking.inference import MAX_TOKENS, PolicyModel, Proposal


def propose_readable(policy: PolicyModel, asks: Sequence[Ask]) -> list[Proposal | None]:
    """The reply of `policy` to each of `asks`; None where the prompt leaves its model no room for a reply.

    The room is what a reply may have; in a model that reads less than four times that, a quarter of what it reads.
    """
    longest = int(policy.model.config.max_position_embeddings)
    room = min(MAX_TOKENS, longest // 4)
    fits = [len(ids) <= longest - room for ids in policy.encode([prompt for prompt, _ in asks])] if asks else []
    read = [ask for ask, is_read in zip(asks, fits, strict=True) if is_read]
    replies = iter(policy.propose_many(read, room))
    return [next(replies) if is_read else None for is_read in fits]
