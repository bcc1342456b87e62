"""What a data set says of itself: card.json for programs, card.md for people. Types, counting and writing only.

Two runs on the same sessions with the same settings give the same card: it holds no path, time of day or machine.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from pilotage_trainer.backends.transformers.rows.sequences import Span, Target

CARD, CARD_PAGE = "card.json", "card.md"
SHOWN = 30
"""Rows of a table in card.md; card.json has all."""


class SplitCard(msgspec.Struct, kw_only=True):
    """One side: what is in it, and the actions that carry loss, counted.

    `nothing` of `actions` teach that there is nothing to propose; `rejections` took the place of a proposal.
    `padding_share` is what rows of max_tokens would leave empty.
    """

    sessions: int
    sequences: int
    rows: int
    tokens: int
    loss_tokens: int
    padding_share: float
    longest: int
    closed_since: str
    closed_until: str
    actions: int
    nothing: int
    rejections: int
    left_out: int
    by_tool: dict[str, int]
    by_screen: dict[str, int]
    by_operator: dict[str, int]
    by_day: dict[str, int]
    by_source: dict[str, int]


class TrimCard(msgspec.Struct, kw_only=True):
    """What was cut. Every trim is a line of trims.jsonl; `windows`: sequences that were too long even so."""

    sessions: int
    trims: int
    lines: int
    chars: int
    windows: int


class Card(msgspec.Struct, kw_only=True):
    """The data set. `digest` covers sessions, settings, tokenizer and format; `data` the sessions alone.

    `dialog` is the format sessions are written in, here and by gateways for a policy that learns from it.
    """

    digest: str
    data: str
    process_clusters: dict[str, int]
    settings: dict[str, Any]
    dialog: dict[str, Any]
    prompt_format: str
    masking: str
    tokenizer: dict[str, Any]
    repeated_sessions: int
    sessions_without_actions: int
    trims: TrimCard
    splits: dict[str, SplitCard]


def count_spans(spans: Iterable[Span]) -> dict[str, Any]:
    """The counts of a SplitCard that are read off its actions."""
    found = list(spans)
    return {
        "actions": len(found),
        "nothing": sum(span.target is Target.NOTHING for span in found),
        "rejections": sum(span.rejected for span in found),
        "by_tool": _count(span.tool for span in found),
        "by_screen": _count(span.screen for span in found),
        "by_operator": _count(span.operator for span in found),
        "by_day": dict(sorted(Counter(span.at[:10] for span in found).items())),
        "by_source": _count(span.source.value for span in found),
    }


def write_page(card: Card) -> str:
    """`card` as Markdown."""
    settings = ", ".join(f"{key} {value}" for key, value in card.settings.items())
    clusters = ", ".join(f"{name or '(none)'} ({number:,})" for name, number in card.process_clusters.items())
    dialog = ", ".join(f"{key} {value}" for key, value in card.dialog.items())
    lines = [
        f"# Data set {card.digest[:12]}",
        "",
        f"- sessions: {clusters}; digest `{card.data}`",
        f"- settings: {settings}",
        f"- dialog: {dialog}; format `{card.prompt_format}`, in which gateways ask a policy that learns from it",
        f"- masking: {card.masking}",
        f"- tokenizer: {', '.join(f'{key} {value}' for key, value in card.tokenizer.items())}",
        f"- left out: {card.repeated_sessions:,} repeated sessions, {card.sessions_without_actions:,} without actions",
        f"- trims: {card.trims.trims:,} in {card.trims.sessions:,} sessions, {card.trims.lines:,} lines, "
        f"{card.trims.chars:,} characters (trims.jsonl); {card.trims.windows:,} sequences cut in windows",
        "",
        *_table("", list(card.splits), [(name, [row(s) for s in card.splits.values()]) for name, row in FIGURES]),
    ]
    for title, field in (("tool", "by_tool"), ("source", "by_source"), ("screen", "by_screen"), ("day", "by_day"),
                         ("operator", "by_operator")):  # fmt: skip
        counts = [getattr(split, field) for split in card.splits.values()]
        keys = list(dict.fromkeys(key for one in counts for key in one))
        rows = [(key, [f"{one.get(key, 0):,}" for one in counts]) for key in keys[:SHOWN]]
        more = [f"\n{len(keys) - SHOWN} more in card.json."] if len(keys) > SHOWN else []
        lines += ["", f"## Actions that carry loss, by {title}", "", *_table(title, list(card.splits), rows), *more]
    return "\n".join(lines) + "\n"


FIGURES: tuple[tuple[str, Callable[[SplitCard], str]], ...] = (
    ("sessions", lambda s: f"{s.sessions:,}"),
    ("closed", lambda s: f"{s.closed_since[:16]} to {s.closed_until[:16]}"),
    ("sequences", lambda s: f"{s.sequences:,}"),
    ("rows", lambda s: f"{s.rows:,}"),
    ("tokens", lambda s: f"{s.tokens:,}"),
    ("with loss", lambda s: f"{s.loss_tokens:,}"),
    ("padding", lambda s: f"{s.padding_share:.2%}"),
    ("longest sequence", lambda s: f"{s.longest:,}"),
    ("actions with loss", lambda s: f"{s.actions:,}"),
    ("of them nothing to propose", lambda s: f"{s.nothing:,}"),
    ("of them instead of a proposal", lambda s: f"{s.rejections:,}"),
    ("left out by mixing and balancing", lambda s: f"{s.left_out:,}"),
)


def _table(title: str, columns: list[str], rows: list[tuple[str, list[str]]]) -> list[str]:
    head = [f"| {title} | {' | '.join(columns)} |", "|---|" + "---:|" * len(columns)]
    return head + [f"| {name.replace('|', '/')} | {' | '.join(values)} |" for name, values in rows]


def _count(names: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(names).items(), key=lambda item: (-item[1], item[0])))
