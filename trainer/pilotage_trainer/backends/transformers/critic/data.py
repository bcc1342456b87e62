"""Labels of a policy's critical proposals, and the rows a critic learns from: a session once, its labels as branches.

A label is live feedback to this very policy, or its proposal replayed against what the operator did. The policy must
not have learned from the sessions: on those it is right too often (docs/decisions/020). An example is the query
(prompt and action), the mark that asks, and one token. Not here: fitting and comparing (fit.py).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from pilotage_core.actions import Action, ActionRules, classify_action
from pilotage_core.dialog import VERDICT_MARK, encode_action
from pilotage_core.errors import EvidenceError, InvalidActionError, InvalidInputError
from pilotage_core.events import Grade
from pilotage_core.proposal import build_action_schema, read_reply
from pilotage_core.record import SessionRecord
from pilotage_core.training import CriticTraining, GradeWeights
from pilotage_trainer.backends.interface import build_query
from pilotage_trainer.backends.rates import Rates
from pilotage_trainer.backends.transformers.asking.critic_card import count_rates, tell_rates
from pilotage_trainer.backends.transformers.asking.inference import (
    AT_ONCE,
    PROMPT_END,
    PolicyModel,
    Proposal,
    Reader,
    find_chains,
)
from pilotage_trainer.backends.transformers.asking.readable import propose_readable
from pilotage_trainer.backends.transformers.rows.tokenizer import label_token_ids
from pilotage_trainer.backends.transformers.training.tree import Branch, build_tree
from pilotage_trainer.failures import OneClassError
from pilotage_trainer.sessions.labels import Moment, list_moments

Row = Mapping[str, Any]


@dataclass(frozen=True)
class CriticExample:
    """One label. `query` is the prompt and the action, `reply` the action as the policy's, with its probabilities.

    `confidence` is what a gateway is told, or was told of a live proposal (None: it was not).
    """

    session: int
    query: str
    stratum: str
    accepted: bool
    weight: float
    live: bool
    reply: Proposal
    confidence: float | None


@dataclass
class Judging:
    """Labels, and what gave none: prompts and replies that cannot be read, proposals not critical or none at all."""

    labels: list[CriticExample]
    unreadable: int = 0
    silent: int = 0


def judge_sessions(
    records: Sequence[SessionRecord],
    policy: PolicyModel,
    rules: ActionRules,
    settings: CriticTraining,
    first: int = 0,
) -> Judging:
    """Labels of `policy`'s critical proposals in `records`, which it has not learned from, numbered from `first`."""
    judging = Judging([])
    grades, made = read_grades(settings.grades), policy.made
    for number, record in enumerate(records, first):
        moments = list_moments(record, made.digest, made.dialog, grades)
        if not settings.replayed:
            moments = [moment for moment in moments if moment.is_live]
        judging.labels += _judge_moments(number, moments, policy, rules, judging)
    return judging


def read_grades(given: GradeWeights) -> dict[Grade | None, float]:
    """What a rejection counts, by its grade."""
    told: dict[Grade | None, float] = {grade: getattr(given, grade.value) for grade in Grade}
    return told | {None: given.ungraded}


def _judge_moments(
    number: int, moments: Sequence[Moment], policy: PolicyModel, rules: ActionRules, judging: Judging
) -> list[CriticExample]:
    """The labels of one session."""
    asked = [moment for moment in moments if not moment.is_live]
    told = propose_readable(policy, [(m.prompt, build_action_schema(rules, m.screen)) for m in asked])
    replies = dict(zip(map(id, asked), told, strict=True))
    critical: list[tuple[Moment, Action, str, Proposal | None]] = []
    for moment in moments:
        reply = replies.get(id(moment))
        if reply is None and not moment.is_live:
            judging.unreadable += 1
            continue
        try:
            action = moment.proposed if reply is None else read_reply(reply.reply, moment.screen)
        except InvalidActionError:
            judging.unreadable += 1
            continue
        kind = classify_action(rules, action, moment.screen) if action else None
        if action is None or kind is None or not kind.critical:
            judging.silent += 1
            continue
        critical.append((moment, action, kind.stratum, reply))
    if not critical:
        return []
    form = policy.made.dialog
    queries = [build_query(moment.prompt, action) for moment, action, *_ in critical]
    written = [encode_action(action, form) for _, action, *_ in critical]
    prompts = [moment.prompt for moment, *_ in critical]
    found = _find_replies(policy, prompts, written, [reply for *_, reply in critical])
    return [
        CriticExample(
            number,
            query,
            stratum,
            moment.judge(action),
            moment.weight,
            moment.is_live,
            reply,
            said.confidence if said else moment.confidence,
        )
        for query, reply, (moment, action, stratum, said) in zip(queries, found, critical, strict=True)
    ]


def _find_replies(
    policy: PolicyModel, prompts: Sequence[str], written: Sequence[str], said: Sequence[Proposal | None]
) -> list[Proposal]:
    """Each action as a reply of the policy: what it said where that is how the action is written, else asked anew."""
    ends = [[*ids, policy.end] for ids in policy.encode(written)]
    known = [reply if reply and list(reply.ids) == ids else None for reply, ids in zip(said, ends, strict=True)]
    asked = [prompt + text for prompt, text, reply in zip(prompts, written, known, strict=True) if reply is None]
    anew = iter(score_replies(policy, asked))
    return [reply or next(anew) for reply in known]


def score_replies(reader: Reader, queries: Sequence[str]) -> list[Proposal]:
    """Each query (a prompt and an action) as if `reader`, a policy, had replied with that action. In their order.

    Sessions are read once. Raises InvalidInputError where a query holds no action.
    """
    cuts = [query.rfind(PROMPT_END) + len(PROMPT_END) for query in queries]
    for query, cut in zip(queries, cuts, strict=True):
        if cut < len(PROMPT_END) or cut == len(query):
            raise InvalidInputError("does not end with a proposed action", where="query")
    found: dict[int, Proposal] = {}
    for chain in find_chains([query[:cut] for query, cut in zip(queries, cuts, strict=True)]):
        encoded = reader.encode_chain([queries[index][: cuts[index]] for index in chain])
        replies = [queries[index][cuts[index] :] for index in chain]
        tails = [[*ids, reader.tokenizer.eos_token_id] for ids in reader.encode(replies)]
        trunk = reader.find_trunk(encoded[-1])
        first = torch.log_softmax(trunk.read(encoded[-1], [len(ids) for ids in encoded]), dim=-1)
        for start in range(0, len(chain), AT_ONCE):
            part = range(start, min(start + AT_ONCE, len(chain)))
            branches = [trunk.branch(len(encoded[i])) for i in part]
            grown = torch.log_softmax(trunk.grow_each(branches, [tails[i][:-1] for i in part]), dim=-1)
            trunk.cut()
            for i, rows in zip(part, grown.split([len(tails[i]) - 1 for i in part]), strict=True):
                later = rows.gather(1, torch.tensor(tails[i][1:], device=rows.device)[:, None])[:, 0].tolist()
                logprobs = (float(first[i, tails[i][0]]), *later)
                found[chain[i]] = Proposal(replies[i], tuple(tails[i]), logprobs, len(encoded[i]), finished=True)
    return [found[index] for index in range(len(queries))]


def require_labels(labels: Sequence[CriticExample], least: int) -> None:
    """Raises EvidenceError where there are fewer than `least`, OneClassError where all are of one class."""
    if len(labels) < least:
        raise EvidenceError(
            f"{len(labels)} labels of critical actions are too few",
            where="window",
            remedy=f"at least {least} are needed, of sessions newer than what the policy learned from: wait for more",
        )
    if len({each.accepted for each in labels}) < 2:
        what = "accepted" if labels[0].accepted else "rejected"
        raise OneClassError(f"all {len(labels)} labels are {what}", where="window", remedy="check the feedback")


# --- rows -------------------------------------------------------------------------------------------------------------
Tell = Callable[[CriticExample], str]
"""What stands between a label's query and its mark: side evidence, or nothing."""


def tell_nothing(label: CriticExample) -> str:
    """No side evidence."""
    return ""


def crossfit_rates(labels: Sequence[CriticExample], folds: int) -> tuple[Rates, Tell]:
    """Acceptance rates of all `labels`, and what is told of each of them: rates of the other folds' sessions."""
    counted = [(each.session % folds, (each.query, each.accepted, each.weight)) for each in labels]
    without = [count_rates(label for fold, label in counted if fold != left_out) for left_out in range(folds)]
    return (
        count_rates(label for _, label in counted),
        lambda label: tell_rates(without[label.session % folds], label.query),
    )


def build_rows(labels: Sequence[CriticExample], reader: Reader, longest: int, tell: Tell = tell_nothing) -> list[Row]:
    """A row for each session's dialog of at most `longest` tokens with all its labels that weigh anything.

    A dialog that was trimmed is several, as it is for the policy. Labels past `longest` tokens are left out.
    """
    tokens = label_token_ids(reader.tokenizer)
    rows: list[Row] = []
    for labels_here in _group([label for label in labels if label.weight > 0.0]):
        cuts = [label.query.rfind(PROMPT_END) + len(PROMPT_END) for label in labels_here]
        prompts = [label.query[:cut] for label, cut in zip(labels_here, cuts, strict=True)]
        tails = reader.encode([label.query[cut:] for label, cut in zip(labels_here, cuts, strict=True)])
        marks = reader.encode([tell(label) + VERDICT_MARK for label in labels_here])
        for chain in find_chains(prompts):
            encoded = reader.encode_chain([prompts[index] for index in chain])
            branches = [
                Branch(len(ids), [*tails[i], *marks[i], tokens[not labels_here[i].accepted]], labels_here[i].weight)
                for i, ids in zip(chain, encoded, strict=True)
            ]
            if kept := [branch for branch in branches if branch.base + len(branch.ids) <= longest]:
                rows.append(build_tree(encoded[-1], kept))
    return rows


def _group(labels: Sequence[CriticExample]) -> list[list[CriticExample]]:
    """`labels` by session, in order."""
    groups: dict[int, list[CriticExample]] = {}
    for label in labels:
        groups.setdefault(label.session, []).append(label)
    return list(groups.values())
