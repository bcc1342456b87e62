"""Ids as 64-bit hashes, a column at a time: a table may name millions of sessions. Not here: what they are ids of."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

ZERO_WIDTH = ("\u200b", "\u200c", "\u200d", "\u2060", "\ufeff")
MISSING = frozenset(
    (
        *("nan", "-nan", "na", "n/a", "<na>", "#n/a", "#na", "null", "none", "nil", "nat", "undefined", "unknown"),
        *("missing", "-", "--", "\u2013", "\u2014", "?", ".", "\\n", "[]", "{}", "()", "(null)", "(none)", "<null>"),
    )
)
"""What pandas, spreadsheets and databases write for a value that is not there, case-folded."""
CONTROL = r"[\x00-\x1f\x7f]"
Ids = npt.NDArray[np.uint64]
Sizes = npt.NDArray[np.int64]


def hash_ids(values: pa.Array) -> Ids:
    """A 64-bit hash of each id, 0 for an empty one. Two of a million ids share one with a chance of 3e-8.

    White space around text is none of the id. Bytes are taken as they are.
    """
    if pa.types.is_dictionary(values.type):
        hashed = np.append(hash_ids(values.dictionary), np.uint64(0))
        at = values.indices.cast(pa.int64()).fill_null(len(hashed) - 1).to_numpy(zero_copy_only=False)
        return np.asarray(hashed[at], dtype=np.uint64)
    if pa.types.is_floating(values.type):
        values = pc.if_else(pc.is_nan(values), None, values)
    is_bytes = pa.types.is_fixed_size_binary(values.type) or pa.types.is_binary(values.type)
    texts = values.cast(pa.large_binary() if is_bytes else pa.large_string()).fill_null(b"" if is_bytes else "")
    if not is_bytes:
        texts = pc.utf8_trim_whitespace(texts)
    ends = np.frombuffer(texts.buffers()[1], dtype=np.int64)[texts.offset : texts.offset + len(texts) + 1]
    starts, lengths = ends[:-1] - ends[0], np.diff(ends)
    letters = texts.buffers()[2]
    data = np.zeros(int(ends[-1] - ends[0]) + 8, dtype=np.uint8)
    if letters is not None:
        data[:-8] = np.frombuffer(letters, dtype=np.uint8)[ends[0] : ends[-1]]
    words = np.lib.stride_tricks.as_strided(data.view(np.uint8)[:8].view(np.uint64), (len(data) - 7,), (1,))
    return _mix_words(words, starts, lengths)


def fold_case(values: pa.Array) -> pa.Array:
    """Names of people and sessions in lower case: exports of one system differ in it. Other kinds are left alone."""
    if pa.types.is_dictionary(values.type):
        return pa.DictionaryArray.from_arrays(values.indices, fold_case(values.dictionary))
    is_text = pa.types.is_string(values.type) or pa.types.is_large_string(values.type)
    return pc.utf8_lower(values) if is_text else values


def holds_control(texts: pa.Array) -> bool:
    """Whether there may be a control character within, or white space of that kind around, any of `texts`."""
    letters, kind = texts.buffers()[2], np.int64 if pa.types.is_large_string(texts.type) else np.int32
    if letters is None or not len(texts):
        return False
    ends = np.frombuffer(texts.buffers()[1], dtype=kind)[texts.offset : texts.offset + len(texts) + 1]
    read = np.frombuffer(letters, dtype=np.uint8)[ends[0] : ends[-1]]
    return bool(((read < 32) | (read == 127)).any())


def find_control(values: pa.Array) -> npt.NDArray[np.bool_]:
    """Which of `values` hold a control character, white space around them aside."""
    texts = values.dictionary_decode() if pa.types.is_dictionary(values.type) else values
    found = pc.match_substring_regex(pc.utf8_trim_whitespace(texts), CONTROL).fill_null(False)
    return np.asarray(found.to_numpy(zero_copy_only=False), dtype=np.bool_)


def _mix_words(words: Ids, starts: Sizes, lengths: Sizes) -> Ids:
    """Eight bytes at a time; `words[i]` are the eight bytes from i on."""
    masks = np.array([(1 << 8 * size) - 1 for size in range(9)], dtype=np.uint64)
    hashed = lengths.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    longest = int(lengths.max(initial=0))
    for done in range(0, longest, 8):
        live = slice(None) if int(lengths.min()) > done else np.flatnonzero(lengths > done)
        mixed = words[starts[live] + done] & masks[np.minimum(lengths[live] - done, 8)]
        hashed[live] = mix(hashed[live], mixed)
    return hashed


def mix(hashed: Ids, more: Ids) -> Ids:
    """Hashes of what `hashed` stands for, followed by `more`."""
    mixed = (hashed ^ more) * np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(31)
    mixed *= np.uint64(0x94D049BB133111EB)
    return np.asarray(mixed ^ (mixed >> np.uint64(29)), dtype=np.uint64)


def _list_missing() -> Iterator[str]:
    for word in MISSING:
        yield from {word, word.upper(), word.title(), word.capitalize()}
        yield word.replace("nan", "NaN").replace("nat", "NaT")
    yield from ZERO_WIDTH


MISSING_IDS = hash_ids(pa.array(sorted(_list_missing())))
"""Hashes of MISSING as it is usually written."""
