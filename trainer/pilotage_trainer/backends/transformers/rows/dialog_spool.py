"""What worker processes do for a data set: sessions to segments, then segments to tokens; files lie between.

A spool holds one frame a session (its segments, MessagePack), so that no process ever holds all dialogs. Nothing here
imports torch or transformers. Not here: what is chosen in between (selection.py), who starts whom (job.py).
"""

import hashlib
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import msgspec
import numpy as np

from pilotage_core.collector import nothing_collected
from pilotage_core.dialog import DialogFormat, Trim
from pilotage_core.masking import mask_record
from pilotage_trainer.backends.transformers.rows.sequences import (
    IGNORED,
    Encoder,
    Segment,
    Sequence,
    Span,
    Target,
    build_segments,
)
from pilotage_trainer.sessions.export import select_records
from pilotage_trainer.sessions.sources import read_records

FRAME = struct.Struct("<I")
SEGMENTS_AT_ONCE = 64


def dialogs_file(spool: Path, part: int) -> Path:
    """Where the segments of `part` are."""
    return spool / f"dialogs-{part}"


def tokens_file(spool: Path, part: int) -> Path:
    """Where the tokens of `part` are."""
    return spool / f"tokens-{part}"


class Told(msgspec.Struct, frozen=True):
    """A session without its text: what is chosen by. `index` is its frame in the spool of `part`."""

    session_id: str
    process_cluster: str
    closed_at: str
    digest: str
    part: int
    index: int
    segments: tuple[tuple[Span, ...], ...]
    trims: tuple[Trim, ...]


@dataclass(frozen=True)
class DialogTask:
    """Every `part[1]`-th session of a source, from the `part[0]`-th on, to the spool at `path`."""

    source: str
    process_cluster: str
    since: str
    until: str
    form: DialogFormat
    part: tuple[int, int]
    path: Path


def write_dialogs(task: DialogTask) -> bytes:
    """Write the segments of a task's sessions to its spool; their `Told`s, encoded. Raises what a source raises."""
    records = read_records(task.source, task.process_cluster, task.since, task.until, task.part)
    told: list[Told] = []
    with task.path.open("wb") as file, nothing_collected():
        for record in select_records(records, task.process_cluster, task.since, task.until):
            segments = list(build_segments(mask_record(record), task.form))
            frame = msgspec.msgpack.encode(segments)
            file.write(FRAME.pack(len(frame)) + frame)
            digest = hashlib.blake2b(msgspec.msgpack.encode(record), digest_size=16).hexdigest()
            spans = tuple(segment.spans for segment in segments)
            trims = tuple(segment.trim for segment in segments if segment.trim is not None)
            about = (record.session_id, record.process_cluster, record.closed_at, digest)
            told.append(Told(*about, task.part[0], len(told), spans, trims))
    return msgspec.msgpack.encode(told)


def read_told(encoded: bytes) -> list[Told]:
    """What `write_dialogs` gave."""
    return msgspec.msgpack.decode(encoded, type=list[Told])


def read_dialogs(path: Path, wanted: Mapping[int, object]) -> Iterator[tuple[int, list[Segment]]]:
    """The frames `wanted` of the spool at `path`, with their numbers."""
    decoder = msgspec.msgpack.Decoder(list[Segment])
    with path.open("rb") as file:
        for index in range(max(wanted, default=-1) + 1):
            (size,) = FRAME.unpack(file.read(FRAME.size))
            if index in wanted:
                yield index, decoder.decode(file.read(size))
            else:
                file.seek(size, 1)


Kept = Mapping[int, Mapping[int, frozenset[int]]]
"""Spans that carry loss, by frame and segment."""


@dataclass(frozen=True)
class TokenTask:
    """The segments of a spool that have a span in `kept`, to the token file at `path`."""

    spool: Path
    path: Path
    kept: Kept
    encoder: Encoder
    max_tokens: int


class Placed(msgspec.Struct, frozen=True):
    """A sequence in a token file: `length` tokens from `offset` on, `loss` of which carry loss."""

    index: int
    segment: int
    window: int
    offset: int
    length: int
    loss: int


def write_tokens(task: TokenTask) -> bytes:
    """Write ids and labels (int32, one after the other) of a task's segments; where each sequence is, encoded."""
    placed: list[Placed] = []
    offset = 0
    left = _read_chosen(task.spool, task.kept)
    with task.path.open("wb") as file, nothing_collected():
        while some := list(islice(left, SEGMENTS_AT_ONCE)):
            sequences = task.encoder.encode([segment for _, _, segment in some])
            for (index, number, _), sequence in zip(some, sequences, strict=True):
                for window, part in enumerate(cut_windows(sequence, task.max_tokens)):
                    pair = np.array([part.input_ids, part.labels], np.int32)
                    file.write(pair.tobytes())
                    loss = int((pair[1] != IGNORED).sum())
                    placed.append(Placed(index, number, window, offset, pair.shape[1], loss))
                    offset += pair.size
    return msgspec.msgpack.encode(placed)


def read_placed(encoded: bytes) -> list[Placed]:
    """What `write_tokens` gave."""
    return msgspec.msgpack.decode(encoded, type=list[Placed])


def cut_windows(sequence: Sequence, max_tokens: int) -> Iterator[Sequence]:
    """`sequence` in pieces of at most `max_tokens`, each beginning in the middle of the one before it.

    What was in the one before is context: every label is in exactly one piece, and pieces without any are left out.
    """
    ids, labels = sequence.input_ids, sequence.labels
    if len(ids) <= max_tokens:
        yield sequence
        return
    step = max(1, max_tokens // 2)
    told = 0
    for start in range(0, len(ids), step):
        stop = min(start + max_tokens, len(ids))
        fresh = [IGNORED] * (told - start) + labels[max(told, start) : stop]
        told = stop
        if any(label != IGNORED for label in fresh):
            yield Sequence(sequence.session_id, ids[start:stop], fresh)
        if stop == len(ids):
            return


def _read_chosen(path: Path, kept: Kept) -> Iterator[tuple[int, int, Segment]]:
    for index, segments in read_dialogs(path, kept):
        for number, spans in kept[index].items():
            yield index, number, silence(segments[number], spans)


def silence(segment: Segment, kept: frozenset[int]) -> Segment:
    """`segment` with loss on the spans `kept` only."""
    spans = tuple(
        span if number in kept or span.target is Target.SILENT else msgspec.structs.replace(span, target=Target.SILENT)
        for number, span in enumerate(segment.spans)
    )
    return msgspec.structs.replace(segment, spans=spans)
