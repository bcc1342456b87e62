"""What trials came to: sessions nobody had to touch, how they ended, what held the others back, an operator's time.

Three arms play the same goals: operators alone, the pair with everything confirmed, the pair under its session τ.
Not here: playing (running.py), τ (thresholds.py).
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec
from scipy.special import betaincinv

from pilotage_core.actions import VALUE_TOOLS, Tool
from pilotage_core.trial import TrialResult
from pilotage_trainer.trials.thresholds import Played, SessionCertificate, sum_taus
from pilotage_trainer.trials.worker import LOOK_SECONDS, By, Decided, HeldBack

CONFIDENCE = 0.95
"""Of the two-sided interval (Clopper–Pearson) of every share."""

Each = TypeVar("Each")


class Share(msgspec.Struct, frozen=True):
    """A share of `n` with its interval; `share` is None where there is nothing to count."""

    share: float | None
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return "not measured" if self.share is None else f"{self.share:.1%} ({self.low:.1%} to {self.high:.1%})"


def count_share(hits: int, n: int) -> Share:
    """`hits` of `n`."""
    side = (1.0 - CONFIDENCE) / 2.0
    low = float(betaincinv(hits, n - hits + 1, side)) if hits else 0.0
    high = float(betaincinv(hits + 1, n - hits, 1.0 - side)) if hits < n else 1.0
    return Share(hits / n if n else None, low, high, n)


class Correctness(msgspec.Struct, frozen=True):
    """The share of sessions that ended right: of those nobody touched, of all, of an operator's alone.

    `unattended_booking` are those of the first whose goal has a transaction.
    """

    unattended: Share
    unattended_booking: Share
    all: Share
    human_only: Share


class Critical(msgspec.Struct, frozen=True):
    """Critical actions as proposed in Copilot: acceptable by schema and goal; exactly what the operator would do."""

    acceptable: Share
    strict: Share


class Seconds(msgspec.Struct, frozen=True):
    """An operator's active seconds a session in each arm, as assumed; and automatic against human-only."""

    human_only: float
    confirm: float
    automatic: float
    ratio: float
    ratio_half_look: float
    ratio_double_look: float


class TrialReport(msgspec.Struct, frozen=True):
    """All that is measured. `automation_rate` is of sessions with nobody asked, by turn of messages and actions.

    `termination_reliability` is of sessions that ran unattended to an ending, a loop or a time-out: rightly ended.
    `held_back_by` counts the first reason of each session that was touched.
    """

    sessions: int
    automation_rate: Share
    automation_rate_by_turn: Share
    resolution_correctness: Correctness
    termination_reliability: Share
    wrong_transactions: Share
    messages_acceptable: Share
    critical: Critical
    values_right: Share
    by_tool: dict[str, Share]
    held_back_by: dict[str, int]
    operator_seconds: Seconds
    certificate: SessionCertificate

    def __str__(self) -> str:
        right, seconds, certificate = self.resolution_correctness, self.operator_seconds, self.certificate
        held = ", ".join(f"{count} {reason}" for reason, count in list(self.held_back_by.items())[:6])
        stands = "stands" if certificate.stands else f"does not stand ({certificate.reason})"
        return "\n".join(
            (
                f"{self.sessions} sessions, {self.automation_rate} of them with nobody asked",
                f"{self.automation_rate_by_turn} of the customers' turns",
                f"right: unattended {right.unattended}, of those that book {right.unattended_booking}",
                f"right: all {right.all}; operators alone {right.human_only}",
                f"rightly ended, of those that ran to an ending, a loop or a time-out: {self.termination_reliability}",
                f"wrong transactions {self.wrong_transactions}; messages acceptable {self.messages_acceptable}",
                f"in copilot: critical actions acceptable {self.critical.acceptable}, values right {self.values_right}",
                f"held back: {held or 'none'}",
                f"an operator's active seconds: {seconds.human_only:.0f} alone, {seconds.confirm:.0f} confirming, "
                f"{seconds.automatic:.0f} with the pair ({seconds.ratio:.0%})",
                f"session certificate at {certificate.target:g} {stands}: {certificate.errors} wrong of "
                f"{certificate.selected} of {certificate.n} sessions, bound {certificate.bound:.3f}; "
                f"τ {sum_taus(certificate.taus)}",
            )
        )


def build_report(
    automatic: Sequence[Played],
    copilot: Sequence[Played],
    alone: Sequence[tuple[TrialResult, float]],
    certificate: SessionCertificate,
) -> TrialReport:
    """The figures of the same trials in three arms."""
    untouched = [each for each in automatic if each.is_unattended]
    asked = [decided for each in copilot for decided in each.decided if decided.proposed is not None]
    critical = [each for each in asked if each.critical]
    values = [each for each in asked if each.proposed is not None and each.proposed.tool in VALUE_TOOLS]
    messages = [each for played in untouched for each in played.decided if _is_message(each)]
    turns = [turn for each in automatic for turn in _split_turns(each)]
    return TrialReport(
        sessions=len(automatic),
        automation_rate=count_share(len(untouched), len(automatic)),
        automation_rate_by_turn=count_share(sum(turns), len(turns)),
        resolution_correctness=Correctness(
            _share(untouched, lambda each: each.result.is_right),
            _share([each for each in untouched if each.result.books], lambda each: each.result.is_right),
            _share(automatic, lambda each: each.result.is_right),
            _share(alone, lambda each: each[0].is_right),
        ),
        termination_reliability=_share(
            [each for each in automatic if _find_hold(each) in (None, HeldBack.LOOP)],
            lambda each: each.is_unattended and each.result.is_right,
        ),
        wrong_transactions=_share(untouched, lambda each: each.result.wrong > 0),
        messages_acceptable=_share(messages, lambda each: each.acceptable),
        critical=Critical(
            _share(critical, lambda each: each.acceptable), _share(critical, lambda each: each.by is By.ACCEPTED)
        ),
        values_right=_share(values, lambda each: each.acceptable),
        by_tool=_by_tool(asked),
        held_back_by=_count_reasons(automatic),
        operator_seconds=_compare_seconds(automatic, copilot, alone),
        certificate=certificate,
    )


def _share(among: Sequence[Each], of: Callable[[Each], bool]) -> Share:
    return count_share(sum(map(of, among)), len(among))


def _find_hold(played: Played) -> HeldBack | None:
    """Why an operator was asked first; None: nobody was."""
    return next((each.held_back for each in played.decided if each.held_back is not None), None)


def _is_message(decided: Decided) -> bool:
    return decided.done is not None and decided.done.tool is Tool.SEND_TEXT_TO_CHAT


def _split_turns(played: Played) -> list[bool]:
    """Of each of the customer's turns whether nobody was asked until the next message to it."""
    turns, touched = [], False
    for decided in played.decided:
        touched = touched or decided.held_back is not None or decided.by is not By.MODEL
        if _is_message(decided) or decided is played.decided[-1]:
            turns.append(not touched)
            touched = False
    return turns


def _by_tool(asked: Sequence[Decided]) -> dict[str, Share]:
    found = {}
    for tool in Tool:
        of_tool = [each for each in asked if each.proposed is not None and each.proposed.tool is tool]
        if of_tool:
            found[tool.value] = _share(of_tool, lambda each: each.acceptable)
    return found


def _count_reasons(automatic: Sequence[Played]) -> dict[str, int]:
    """The first thing that held each session back: the reason, and the action."""
    reasons: Counter[str] = Counter()
    for played in automatic:
        first = next((each for each in played.decided if each.held_back is not None), None)
        if first is not None and first.held_back is not None:
            action = first.proposed or first.done
            reasons[f"{first.held_back.value}: {first.stratum or (action.tool.value if action else 'nothing')}"] += 1
    return dict(reasons.most_common())


def _compare_seconds(
    automatic: Sequence[Played], copilot: Sequence[Played], alone: Sequence[tuple[TrialResult, float]]
) -> Seconds:
    human = sum(seconds for _, seconds in alone) / max(len(alone), 1)

    def mean(arm: Sequence[Played], look: float = 1.0) -> float:
        total = 0.0
        for each in arm:
            for decided in each.decided:
                looked = LOOK_SECONDS if decided.held_back is not None and decided.proposed is not None else 0.0
                total += decided.seconds + (look - 1.0) * looked
        return total / max(len(arm), 1)

    return Seconds(
        human,
        mean(copilot),
        mean(automatic),
        mean(automatic) / human if human else 0.0,
        mean(automatic, 0.5) / human if human else 0.0,
        mean(automatic, 2.0) / human if human else 0.0,
    )
