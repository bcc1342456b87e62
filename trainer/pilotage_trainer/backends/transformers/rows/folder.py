"""The folder of a data set: its tokenizer, the rows of each side, the trims, and the card that says what is in it.

train/, development/, held-out/ (shards.py), tokenizer/, card.json, card.md, trims.jsonl; manifest.json is added where
the folder is put in place. Not here: who does the work, and in how many processes (job.py).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from pilotage_core.masking import PROFILE
from pilotage_trainer.artefact import Manifest, digest_bytes
from pilotage_trainer.backends.transformers import find_maker
from pilotage_trainer.backends.transformers.rows.card import (
    CARD,
    CARD_PAGE,
    Card,
    SplitCard,
    TrimCard,
    count_spans,
    write_page,
)
from pilotage_trainer.backends.transformers.rows.choice import ChosenSessions, DatasetRequest
from pilotage_trainer.backends.transformers.rows.dialog_spool import (
    Placed,
    Told,
    dialogs_file,
    read_dialogs,
    tokens_file,
)
from pilotage_trainer.backends.transformers.rows.packing import Row, build_row, padding_share, plan_rows
from pilotage_trainer.backends.transformers.rows.selection import Split
from pilotage_trainer.backends.transformers.rows.sequences import Encoder
from pilotage_trainer.backends.transformers.rows.shards import write_shards
from pilotage_trainer.results import tell

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

LEARN_FROM_CHARS = 24_000_000
KIND, TOKENIZER, TRIMS = "dataset", "tokenizer", "trims.jsonl"
Tokenise = Callable[[Encoder], list[list[Placed]]]
"""Has the chosen segments encoded; where the sequences of each part are."""


def load_base_tokenizer(base: str) -> "PreTrainedTokenizerFast | None":
    """The tokenizer of `base`, None without one: a wrong name is told before the sessions are read."""
    if not base:
        return None
    from pilotage_trainer.backends.transformers.rows.tokenizer import adapt_tokenizer  # transformers: seconds to import

    return adapt_tokenizer(base)


def fill_folder(
    folder: Path,
    spool: Path,
    chosen: ChosenSessions,
    request: DatasetRequest,
    tokenise: Tokenise,
    base: "PreTrainedTokenizerFast | None" = None,
) -> Card:
    """Write the data set into the empty `folder` from the dialogs in `spool`, with the tokenizer `base` or a new one.

    Raises PilotageError, OSError.
    """
    from pilotage_trainer.backends.transformers.rows.tokenizer import learn_tokenizer

    tokenizer = base or learn_tokenizer(_texts_to_learn(spool, chosen), request.vocabulary)
    tokenizer.save_pretrained(folder / TOKENIZER)
    tell(f"a tokenizer of {len(tokenizer)} tokens")
    placed = tokenise(Encoder.of(tokenizer))
    splits = {}
    for side in Split:
        if chosen.decisions[side]:
            splits[side.value] = _write_split(folder, spool, side, chosen, placed, request.settings.max_tokens)
    card = _build_card(chosen, request, splits, placed, tokenizer.backend_tokenizer.to_str(), len(tokenizer))
    (folder / CARD).write_bytes(msgspec.json.format(msgspec.json.encode(card)))
    (folder / CARD_PAGE).write_text(write_page(card))
    with (folder / TRIMS).open("wb") as file:
        for session in chosen.sessions:
            for trim in session.trims:
                file.write(msgspec.json.encode({"session_id": session.session_id, **msgspec.to_builtins(trim)}) + b"\n")
    return card


def _texts_to_learn(spool: Path, chosen: ChosenSessions) -> Iterator[str]:
    """Dialogs of the training side, evenly over time, up to LEARN_FROM_CHARS."""
    trained = [s for s, side in zip(chosen.sessions, chosen.sides, strict=True) if side is Split.TRAIN]
    sizes = [max((spans[-1].end for spans in session.segments if spans), default=0) for session in trained]
    step = max(1, -(-sum(sizes) // LEARN_FROM_CHARS))
    wanted: dict[int, dict[int, str]] = {}
    for session in islice(trained, 0, None, step):
        wanted.setdefault(session.part, {})[session.index] = session.session_id
    for part, frames in sorted(wanted.items()):
        for _, segments in read_dialogs(dialogs_file(spool, part), frames):
            yield from (segment.text for segment in segments)


@dataclass(frozen=True)
class _Mapped:
    """A sequence in a token file."""

    input_ids: np.ndarray[Any, np.dtype[np.int32]]
    labels: np.ndarray[Any, np.dtype[np.int32]]


def _write_split(
    folder: Path, spool: Path, side: Split, chosen: ChosenSessions, placed: list[list[Placed]], max_tokens: int
) -> SplitCard:
    order = {(s.part, s.index): n for n, s in enumerate(chosen.sessions) if chosen.sides[n] is side}
    found = sorted(
        (order[part, p.index], p.segment, p.window, part, p)
        for part, some in enumerate(placed)
        for p in some
        if (part, p.index) in order
    )
    files = {part: np.memmap(tokens_file(spool, part), np.int32, "r") for part in {entry[3] for entry in found}}
    lengths = [entry[4].length for entry in found]
    plan = plan_rows(lengths, max_tokens)

    def read(index: int) -> _Mapped:
        _, _, _, part, where = found[index]
        pair = files[part][where.offset : where.offset + 2 * where.length].reshape(2, where.length)
        return _Mapped(pair[0], pair[1])

    rows: Iterator[Row] = (build_row(read(index) for index in row) for row in plan)
    number = write_shards(folder, side, rows, sum(lengths))
    decided = chosen.decisions[side]
    spans = [chosen.sessions[d.session].segments[d.segment][d.span] for d in decided]
    closed = [session.closed_at for session, own in zip(chosen.sessions, chosen.sides, strict=True) if own is side]
    return SplitCard(
        sessions=len(closed),
        sequences=len(found),
        rows=number,
        tokens=sum(lengths),
        loss_tokens=sum(entry[4].loss for entry in found),
        padding_share=round(padding_share(number, sum(lengths), max(max_tokens, max(lengths))), 5),
        longest=max(lengths),
        closed_since=closed[0],
        closed_until=closed[-1],
        left_out=chosen.left_out[side],
        **count_spans(spans),
    )


def _build_card(
    chosen: ChosenSessions,
    request: DatasetRequest,
    splits: dict[str, SplitCard],
    placed: list[list[Placed]],
    tokenizer: str,
    tokens: int,
) -> Card:
    settings = {
        **request.settings.model_dump(mode="json"),
        "development_share": request.development_share,
        "held_out_share": request.held_out_share,
    }
    data, form = _digest_sessions(chosen.sessions), request.settings.form
    about = {"from": request.base or "learned", "tokens": tokens, "digest": digest_bytes(tokenizer.encode())}
    identity = msgspec.json.encode([data, settings, about["digest"], form.digest, PROFILE], order="sorted")
    trims = [trim for session in chosen.sessions for trim in session.trims]
    clusters = [session.process_cluster for session in chosen.sessions]
    return Card(
        digest=digest_bytes(identity),
        data=data,
        process_clusters={name: clusters.count(name) for name in sorted(set(clusters))},
        settings=settings,
        dialog=msgspec.to_builtins(form),
        prompt_format=form.digest,
        masking=PROFILE,
        tokenizer=about,
        repeated_sessions=chosen.repeated,
        sessions_without_actions=sum(not any(session.segments) for session in chosen.sessions),
        trims=TrimCard(
            sessions=sum(bool(session.trims) for session in chosen.sessions),
            trims=len(trims),
            lines=sum(trim.lines for trim in trims),
            chars=sum(trim.chars for trim in trims),
            windows=sum(p.window > 0 for some in placed for p in some),
        ),
        splits=splits,
    )


def describe_folder(chosen: ChosenSessions, request: DatasetRequest) -> Manifest:
    """The manifest of a data set, but for its files."""
    trained = [s.closed_at for s, side in zip(chosen.sessions, chosen.sides, strict=True) if side is Split.TRAIN]
    maker = find_maker()
    return Manifest(
        kind=KIND,
        process_cluster=request.process_cluster,
        revision="",
        backend=maker.backend,
        data=_digest_sessions(chosen.sessions),
        config=digest_bytes(request.settings.model_dump_json().encode()),
        prompt_format=request.settings.form.digest,
        code=maker.code,
        files={},
        trained_since=min(trained),
        trained_until=max(trained),
        base=request.base,
        dialog=request.settings.form,
    )


def _digest_sessions(sessions: Sequence[Told]) -> str:
    return digest_bytes("\n".join(session.digest for session in sessions).encode())
