"""Rows: every sequence once, none cut, little padding; and the same again from disk."""

import datasets
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilotage_core.errors import EvidenceError
from pilotage_trainer.backends.transformers.rows import shards
from pilotage_trainer.backends.transformers.rows.packing import pack, padding_share, plan_rows
from pilotage_trainer.backends.transformers.rows.sequences import IGNORED, Sequence
from pilotage_trainer.backends.transformers.rows.shards import read_rows, write_shards
from pilotage_trainer.failures import DamagedArtefactError

LENGTHS = st.lists(st.integers(1, 400), max_size=80)


def sequence_of(length, number=0):
    return Sequence(f"s-{number}", [number * 1000 + n for n in range(length)], [IGNORED] * (length - 1) + [7])


@settings(max_examples=100, deadline=None)
@given(lengths=LENGTHS, pack_tokens=st.integers(1, 500))
def test_every_sequence_is_in_one_row_and_no_row_is_too_long(lengths, pack_tokens):
    plan = plan_rows(lengths, pack_tokens)
    assert sorted(index for row in plan for index in row) == list(range(len(lengths)))
    most = max(pack_tokens, max(lengths, default=0))
    assert all(sum(lengths[index] for index in row) <= most for row in plan)


@settings(max_examples=100, deadline=None)
@given(lengths=LENGTHS.filter(len), pack_tokens=st.integers(400, 900))
def test_rows_are_as_few_as_best_fit_promises(lengths, pack_tokens):
    rows = len(plan_rows(lengths, pack_tokens))
    fewest = -(-sum(lengths) // pack_tokens)
    assert rows <= 11 * max(fewest, sum(length > pack_tokens / 2 for length in lengths)) / 9 + 4
    assert plan_rows(lengths, pack_tokens) == plan_rows(lengths, pack_tokens)


def test_at_32k_less_than_three_in_a_hundred_tokens_are_padding():
    """Lengths spread as STAR's sessions are, and a heavy tail beside."""
    draws = np.random.default_rng(0)
    for lengths in (draws.gamma(4, 80, 5000), draws.lognormal(8.5, 0.9, 3000)):
        lengths = [int(n) for n in np.clip(lengths, 20, 32_768)]
        assert padding_share(len(plan_rows(lengths, 32_768)), sum(lengths), 32_768) < 0.03


def test_many_sequences_take_no_square_time():
    lengths = [int(n) for n in np.random.default_rng(0).integers(1, 32_768, 100_000)]
    assert sum(len(row) for row in plan_rows(lengths, 32_768)) == 100_000


def test_positions_begin_anew_with_each_sequence_and_labels_stay_beside_their_tokens():
    (row,) = pack([sequence_of(3), sequence_of(5, 1)], 8)
    assert row["input_ids"].tolist() == [1000, 1001, 1002, 1003, 1004, 0, 1, 2]
    assert row["position_ids"].tolist() == [0, 1, 2, 3, 4, 0, 1, 2]
    assert row["labels"].tolist() == [IGNORED] * 4 + [7] + [IGNORED] * 2 + [7]


@pytest.mark.parametrize("a_shard", [40, 10**9])
def test_rows_come_back_from_disk_as_they_were(tmp_path, monkeypatch, a_shard):
    monkeypatch.setattr(shards, "TOKENS_A_SHARD", a_shard)
    monkeypatch.setattr(shards, "TOKENS_A_BATCH", 20)
    rows = pack([sequence_of(n % 9 + 1, n) for n in range(40)], 12)
    tokens = sum(len(row["input_ids"]) for row in rows)
    assert write_shards(tmp_path, "train", iter(rows), tokens) == len(rows)
    found = read_rows(tmp_path, "train")
    assert len(list((tmp_path / "train").iterdir())) == (1 if a_shard > tokens else -(-tokens // a_shard))
    assert (len(found), found.tokens) == (len(rows), tokens)
    for index, row in enumerate(rows):
        for name, values in row.items():
            assert found[index][name].tolist() == values.tolist()
            assert found[index][name].dtype == np.int32
    assert found[-1]["input_ids"].tolist() == rows[-1]["input_ids"].tolist()
    assert len(found[1:3]) == 2
    with pytest.raises(IndexError):
        found[len(rows)]


def test_a_shard_is_a_dataset_of_the_library(tmp_path):
    rows = pack([sequence_of(5), sequence_of(6, 1)], 6)
    write_shards(tmp_path, "train", rows)
    found = datasets.Dataset.from_file(str(tmp_path / "train" / "data-00000-of-00001.arrow"))
    assert found[0]["input_ids"] == rows[0]["input_ids"].tolist()
    assert found.column_names == ["input_ids", "labels", "position_ids"]


def test_a_missing_split_and_damaged_shards_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "TOKENS_A_SHARD", 10)
    write_shards(tmp_path, "train", pack([sequence_of(9, n) for n in range(5)], 10), 45)
    with pytest.raises(EvidenceError, match=r"no rows of 'development'.*splits: train"):
        read_rows(tmp_path, "development")
    first, *_, last = sorted((tmp_path / "train").iterdir())
    first.write_bytes(first.read_bytes()[:300])
    with pytest.raises(DamagedArtefactError, match="no whole shard"):
        read_rows(tmp_path, "train")
    last.unlink()
    with pytest.raises(DamagedArtefactError, match="of 5 shards are here"):
        read_rows(tmp_path, "train")
