"""One decision: ask the policy, ask the critic, gather the gate's facts, ask the gate. Nothing is stored here.

The gate itself is core's; the audit draw is made here, since its propensity has to be stored with the decision.
"""

import hashlib
import logging
import random
import time
from collections.abc import Callable, Mapping

import msgspec
from uuid_utils import uuid7

from pilotage_core.actions import Action, ActionClass, Tool, classify_action, is_legal_next_step
from pilotage_core.certificate import ScoreSource
from pilotage_core.dialog import DEFAULT_FORMAT, DialogFormat, encode_judged
from pilotage_core.errors import InvalidActionError
from pilotage_core.gate import GateFacts, GateVerdict, Reason, decide_gate, find_look
from pilotage_core.proposal import build_action_schema, find_fault, read_reply
from pilotage_core.record import ProposalRecord
from pilotage_core.score import CRITIC_ALONE, find_score
from pilotage_core.stage import UNATTENDED, Stage
from pilotage_core.state import digest_state, is_looping
from pilotage_core.walk import is_decision_point
from pilotage_core.wire import Leave, PairRef, PostEvents, ProposalCard
from pilotage_gateway.metrics import Metrics
from pilotage_gateway.models import ModelError, Models, RefusedError
from pilotage_gateway.sessions import LiveSession

log = logging.getLogger(__name__)
NO_CLASS = ActionClass(critical=True, finalizing=False, stratum="", stopped=False, unattended_in_copilot=False)


class Asked(msgspec.Struct, frozen=True):
    """What the models said of one state: `score` is what the pair's rule makes of critic and confidence.

    `scored` is the digest of the action that the score is of. `fault` is why the state cannot be told to them, `detail`
    why there is no action.
    """

    pair: PairRef
    action: Action | None
    confidence: float | None = None
    critic: float | None = None
    score: float | None = None
    score_version: int = -1
    scored: str = ""
    fault: str = ""
    detail: str = ""


def effective_stage(leave: Leave | None, permit_fresh: bool) -> Stage:
    """The stage this gateway works in: without a fresh permit at most Copilot."""
    if leave is None:
        return Stage.LOGGING
    return Stage.COPILOT if leave.stage in UNATTENDED and not permit_fresh else leave.stage


def hold_in_calibration(leave: Leave | None, session_id: str) -> Leave | None:
    """`leave` as it is for one session: a share of them stays in Calibration where the others are in Automation.

    Which ones follows from their ids, so every replica, and a restart, finds the same.
    """
    if leave is None or leave.stage is not Stage.AUTOMATION or not leave.always_calibrating:
        return leave
    drawn = hashlib.blake2b(f"{leave.key}\0{session_id}".encode(), digest_size=8).digest()
    if int.from_bytes(drawn, "big") / 2**64 >= leave.always_calibrating:
        return leave
    return msgspec.structs.replace(leave, stage=Stage.CALIBRATION, finalizing_by_human=True)


def find_form(leave: Leave | None) -> DialogFormat:
    """How dialogs are written under `leave`: as its pair reads them."""
    return leave.pair.dialog if leave is not None and leave.pair is not None else DEFAULT_FORMAT


async def ask_models(models: Models, metrics: Metrics, session: LiveSession, leave: Leave, pair: PairRef) -> Asked:
    """What policy and critic make of the session's state, its dialog being in the pair's format.

    A model that fails is no error: the operator works on.
    """
    state, prompt = session.state, session.walk.dialog.prompt()
    labels = {"process_cluster": leave.key, "pair": pair.revision}
    started = time.perf_counter()
    try:
        reply = await models.propose(pair.policy_url, prompt, build_action_schema(leave.rules, state.screen))
        action = read_reply(reply.text, state.screen)
    except RefusedError as error:
        metrics.count("model_errors", model="policy", **labels)
        return Asked(pair, None, fault=f"the policy does not take this session's prompt: {error.what}"[:300])
    except (ModelError, InvalidActionError) as error:
        metrics.count("model_errors", model="policy", **labels)
        return Asked(pair, None, detail=f"the policy does not answer: {error.what}"[:300])
    finally:
        metrics.policy_seconds.observe(time.perf_counter() - started)
    if action is None:
        return Asked(pair, None, detail="the policy has nothing to propose")
    asked = Asked(pair, action, reply.confidence)
    if not pair.critic_url or not classify_action(leave.rules, action, state.screen).critical:
        return asked
    query = prompt + encode_judged(action)
    critic = await _ask_critic(models, metrics, pair, query, labels) if pair.score.critic else None
    score = find_score(pair.score, critic, reply.confidence)
    return msgspec.structs.replace(asked, critic=critic, score=score, score_version=state.version, scored=action.digest)


async def _ask_critic(
    models: Models, metrics: Metrics, pair: PairRef, query: str, labels: Mapping[str, str]
) -> float | None:
    """The critic's answer to `query`; None where it does not answer."""
    started = time.perf_counter()
    try:
        return await models.score(pair.critic_url, pair.critic_digest, query)
    except ModelError as error:
        metrics.count("model_errors", model="critic", **labels)
        log.info("no score: %s", error)
        return None
    finally:
        metrics.critic_seconds.observe(time.perf_counter() - started)


def gather_facts(leave: Leave, session: LiveSession, asked: Asked, *, permit_fresh: bool, suspended: bool) -> GateFacts:
    """The gate's facts for what was asked, in the state now. `leave` is the one that counts now, not when asking."""
    state, action, rules = session.state, asked.action, leave.rules
    # What is certified is of sessions that a model closes: another's time is people's to give.
    is_transfer = leave.whole_sessions and action is not None and action.tool is Tool.TRANSFER_CHAT
    kind = NO_CLASS if action is None else classify_action(rules, action, state.screen)
    return GateFacts(
        stage=leave.stage,
        state_version=state.version,
        action=action,
        action_class=kind,
        suspended=suspended or leave.suspended,
        handed_off=bool(session.handed_off),
        state_fault=state.screen.fault or asked.fault,
        control_fault="" if action is None else find_fault(action, state.screen, rules),
        looping=action is not None and is_looping(state, action, rules.same_action_limit, rules.no_progress_limit),
        legal_next_step=action is None or is_legal_next_step(rules, state.last_action, action, state.screen.name),
        permit_fresh=permit_fresh and asked.pair == leave.pair,
        finalizing_by_human=leave.finalizing_by_human or is_transfer,
        tau=find_tau(leave, asked.pair, kind.stratum),
        score=asked.score,
        score_version=asked.score_version,
        scored=asked.scored,
        asked_before=leave.whole_sessions and session.was_asked,
    )


def recall(leave: Leave, proposal: ProposalRecord) -> Asked:
    """What the models said of a proposal, from its record; its own pair, where `leave` has another one by now."""
    pair = leave.pair
    said_by = (proposal.pair, proposal.policy_digest, proposal.critic_digest)
    if pair is None or (pair.revision, pair.policy_digest, pair.critic_digest) != said_by:
        pair = PairRef(*said_by)
    return Asked(
        pair,
        proposal.action,
        proposal.confidence,
        score=proposal.score,
        score_version=proposal.at_version,
        scored=proposal.scored,
    )


def find_tau(leave: Leave, pair: PairRef, stratum: str) -> float | None:
    """τ of a stratum, where its certificate is of this pair, its score, and prompts as this gateway writes them.

    The digest is of the pair's format under the serialiser here: another version of it computes another one. What a
    score is made of is in the critic's digest as well; here it is held against the rule that this gateway computes by.
    A count critic that did not beat confidence answers with it, so what is then the critic's answer is confidence.
    """
    certificate = leave.certificates.get(stratum)
    if certificate is None:
        return None
    digests = certificate.digests
    same_pair = digests.policy == pair.policy_digest and digests.critic == pair.critic_digest
    answers = {ScoreSource.CRITIC, ScoreSource.CONFIDENCE} if pair.score == CRITIC_ALONE else {pair.score.source}
    same_score = certificate.score_from is None or certificate.score_from in answers
    return certificate.tau if same_pair and same_score and digests.prompt_format == pair.dialog.digest else None


class Look(msgspec.Struct, frozen=True):
    """How likely an action that would be executed is looked at, and the draw u where one is made before it runs."""

    share: float = 1.0
    draw: float | None = None


NO_DRAW = Look()


def decide_with_audit(
    facts: GateFacts, leave: Leave, draw: Callable[[], float] = random.random
) -> tuple[GateFacts, GateVerdict, Look]:
    """The gate's verdict; where it would execute a certified action, after the audit draw that is due."""
    verdict = decide_gate(facts)
    if verdict.reason is not Reason.CERTIFIED:
        return facts, verdict, NO_DRAW
    share, is_drawn = find_look(facts, leave.audit_share, leave.review_share)
    if not is_drawn:
        return facts, verdict, Look(share)
    u = draw()
    facts = msgspec.structs.replace(facts, audit=u < share)
    return facts, decide_gate(facts), Look(share, u)


def build_proposal(
    session: LiveSession, asked: Asked, facts: GateFacts, verdict: GateVerdict, stage: Stage, propensity: float, at: str
) -> ProposalRecord | None:
    """The record of a proposal; None where nothing was proposed."""
    if facts.action is None:
        return None
    return ProposalRecord(
        proposal_id=str(uuid7()),
        at_version=facts.state_version,
        action=facts.action,
        pair=asked.pair.revision,
        policy_digest=asked.pair.policy_digest,
        critic_digest=asked.pair.critic_digest,
        stage=stage,
        decision=verdict.decision.value,
        reason=verdict.reason.value,
        critical=facts.action_class.critical,
        stratum=facts.action_class.stratum,
        state_digest=digest_state(session.state),
        at=at,
        score=asked.score,
        scored=asked.scored,
        confidence=asked.confidence,
        tau=facts.tau,
        propensity=propensity,
        audited=verdict.reason is Reason.AUDIT,
    )


def why_not_ask(session: LiveSession, leave: Leave, post: PostEvents) -> tuple[str, ProposalCard | None]:
    """Why the policy is not asked (empty: it is), and the proposal that still stands, if there is one."""
    if not post.wants_decision:
        return "stored only, as asked", None
    if not post.nonce:
        return "an order answers a nonce, and the post has none", None
    if not is_decision_point(session.state):
        return ("the session is closed" if not session.state.is_open else "the customer is to answer"), None
    if session.asked_version >= session.moved_version:  # only verdicts since: a model would see the same again
        if (card := session.find_card()) is not None:
            return "", ProposalCard(card.proposal_id, card.action)
        return "nothing has changed since the policy was asked: the operator acts next", None
    if leave.pair is None or not leave.pair.policy_url:
        return "no policy is served", None
    return "", None
