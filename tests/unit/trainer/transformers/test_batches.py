"""Which rows make a batch, and that packing, micro-batches and masks change nothing about the loss."""

import itertools

import pytest
import torch
from unit.trainer.transformers.rows import TOKENS, build_rows, build_tiny

from pilotage_trainer.backends.transformers.training.batches import BatchOrder, collate, share_out
from pilotage_trainer.backends.transformers.training.model import build_shell, sum_losses


def split_row(row):
    starts = [i for i, position in enumerate(row["position_ids"]) if position == 0] + [len(row["input_ids"])]
    return [{name: row[name][a:b] for name in row} for a, b in itertools.pairwise(starts)]


def test_every_epoch_has_every_row_once_and_another_order():
    order = BatchOrder(rows=10, size=4, epochs=2, seed=7)
    drawn = [row for step in range(order.steps) for row in order[step]]
    assert order.steps == 5
    assert sorted(drawn[:10]) == sorted(drawn[10:]) == list(range(10))
    assert drawn[:10] != drawn[10:]
    assert BatchOrder(10, 4, 2, 7)[3] == order[3]  # asked alone, as after a restart
    assert BatchOrder(10, 4, 2, 8)[0] != order[0]


def test_a_batch_larger_than_the_rows_takes_from_the_next_epoch():
    order = BatchOrder(rows=3, size=8, epochs=3, seed=0)
    assert [len(order[step]) for step in range(order.steps)] == [8, 1]


@pytest.mark.parametrize(("rows", "processes", "micro"), [(8, 1, 3), (8, 2, 1), (7, 2, 2), (1, 4, 1)])
def test_processes_share_a_batch_and_have_as_many_micro_batches_each(rows, processes, micro):
    shares = [share_out(range(rows), process, processes, micro) for process in range(processes)]
    assert len({len(share) for share in shares}) == 1
    assert sorted(row for share in shares for part in share for row in part) == list(range(rows))


def test_a_packed_row_has_the_losses_of_its_sequences_alone():
    model, row = build_tiny(), build_rows(1)[0]
    packed = sum_losses(model, collate([row]))
    alone = sum(sum_losses(model, collate([part])) for part in split_row(row))
    torch.testing.assert_close(packed, alone, rtol=1e-5, atol=1e-4)
    assert packed > 1


def test_it_is_transformers_own_loss_and_attention():
    model, row = build_tiny(), split_row(build_rows(1)[0])[0]
    ours = sum_losses(model, collate([row])).item()
    model.set_attn_implementation("eager")
    ids, labels = torch.tensor([row["input_ids"]]), torch.tensor([row["labels"]])
    told = model(input_ids=ids, labels=labels)
    count = (labels[:, 1:] != -100).sum().item()
    assert ours == pytest.approx(told.loss.item() * count, rel=1e-4)


def test_the_first_token_of_a_sequence_is_no_target_and_weights_count():
    model, row = build_tiny(), build_rows(1)[0]
    labelled = {**row, "labels": row["input_ids"]}
    batch = collate([labelled])
    assert len(batch.targets) == TOKENS - len(batch.lengths)
    halved = collate([{**labelled, "weights": [0.5] * TOKENS}])
    torch.testing.assert_close(sum_losses(model, halved) * 2, sum_losses(model, batch))
    assert sum_losses(model, batch.silence()).item() == 0.0


def test_a_shell_has_no_weights_and_ties_what_was_tied():
    model = build_tiny()
    shell = build_shell(model)
    assert {parameter.device.type for parameter in shell.parameters()} == {"meta"}
    assert shell.lm_head.weight is shell.model.embed_tokens.weight
    assert {parameter.device.type for parameter in model.parameters()} == {"cpu"}


def test_with_a_text_weight_other_tokens_count_that_much_of_what_is_labelled():
    row = build_rows(1)[0]
    plain, mixed = collate([row]), collate([row], text_weight=0.5, seed=(3,))
    assert mixed.actions == plain.actions == len(plain.targets) < len(mixed.targets)
    assert mixed.weights.sum().item() == pytest.approx(1.5 * plain.weights.sum().item())
    assert (mixed.targets[: plain.actions] == plain.targets).all()
    assert (mixed.targets[plain.actions :] == mixed.input_ids[0][mixed.places[plain.actions :] + 1]).all()
