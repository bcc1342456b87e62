"""A session read once with many branches says what each branch would say alone."""

import pytest
import torch
from unit.trainer.transformers.tiny import build_model

from pilotage_trainer.backends.transformers.training.batches import collate
from pilotage_trainer.backends.transformers.training.tree import (
    Branch,
    build_tree,
    order_branches,
    read_shapes,
    read_targets,
    use_trees,
)

TRUNK = list(range(5, 45))


def branch_at(base, length=4):
    return Branch(base, [100 + (base * 7 + i) % 50 for i in range(length)] + [3])


@pytest.mark.parametrize(
    "bases",
    [
        pytest.param((40,), id="one, at the end: a sequence like any other"),
        pytest.param((10,), id="one, within"),
        pytest.param((7, 12, 40), id="where positions of one go on in the next"),
        pytest.param((40, 40, 20, 20), id="several at one place"),
    ],
)
def test_branches_say_what_they_would_say_alone(bases):
    model = build_model(200).double()  # in single precision how near they come depends on the processor
    use_trees(model)
    branches = [branch_at(base, 4 + number) for number, base in enumerate(bases)]
    other = [branch_at(13), branch_at(30)]
    with torch.no_grad():
        packed = read_targets(model, collate([build_tree(TRUNK[::-1], other), build_tree(TRUNK, branches)]))
        for trunk, asked, told in ((TRUNK[::-1], other, packed[:2]), (TRUNK, branches, packed[2:])):
            for place, logits in zip(order_branches(asked), told, strict=True):
                alone = torch.tensor([trunk[: asked[place].base] + asked[place].ids[:-1]])
                wanted = model(input_ids=alone).logits[0, -1]
                torch.testing.assert_close(logits, wanted, atol=1e-10, rtol=0)


def test_a_row_without_branches_is_one_sequence():
    row = build_tree(TRUNK, [branch_at(40)])
    batch = collate([row])
    (shape,) = read_shapes(batch.position_ids, batch.lengths)
    assert (shape.main, shape.others) == (45, 0)
    assert batch.targets.tolist() == [3]
    assert batch.places.tolist() == [43]
