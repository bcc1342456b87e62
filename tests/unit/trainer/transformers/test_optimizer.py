"""AdamW with decay that is decoupled from the learning rate, step by step against its definition; the schedule too."""

import math

import numpy as np
import pytest
import torch

from pilotage_core.training import PolicyTraining
from pilotage_trainer.backends.transformers.training.optimizer import (
    DecoupledAdamW,
    Muon,
    MuonWithAdamW,
    build_optimizer,
    find_iteration_dtype,
    find_warm_up,
    orthogonalise,
    schedule_factor,
)

ETA, BETAS, EPSILON, DECAY = 3e-3, (0.9, 0.95), 1e-8, 1e-2


def test_every_step_is_that_of_the_decoupled_definition():
    """Loshchilov & Hutter 2019, algorithm 2, with schedule multiplier η_t/η_0."""
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(5, 3))
    parameter = torch.nn.Parameter(torch.tensor(weights))
    optimizer = DecoupledAdamW([parameter], ETA, BETAS, EPSILON, DECAY)
    first, second = np.zeros_like(weights), np.zeros_like(weights)
    for step in range(1, 40):
        gradient = rng.normal(size=weights.shape)
        factor = schedule_factor(step, 40, 10, 0.1)
        optimizer.set_factor(factor)
        parameter.grad = torch.tensor(gradient)
        optimizer.step()

        first = BETAS[0] * first + (1 - BETAS[0]) * gradient
        second = BETAS[1] * second + (1 - BETAS[1]) * gradient**2
        unbiased, spread = first / (1 - BETAS[0] ** step), second / (1 - BETAS[1] ** step)
        weights = weights - factor * (ETA * unbiased / (np.sqrt(spread) + EPSILON) + DECAY * weights)
        np.testing.assert_allclose(parameter.detach().numpy(), weights, rtol=1e-12, atol=1e-14)


def test_it_is_torchs_adamw_with_the_decay_over_the_initial_learning_rate():
    """…so torch's `weight_decay` of 1e-7 / 2e-6 = 0.05 is Table 5's, and the same 1e-7 given to torch is nothing."""
    torch.manual_seed(0)
    start = torch.randn(7, dtype=torch.float64)
    ours, theirs, same_number = (torch.nn.Parameter(start.clone()) for _ in range(3))
    optimizers = (
        DecoupledAdamW([ours], ETA, BETAS, EPSILON, DECAY),
        torch.optim.AdamW([theirs], ETA, BETAS, EPSILON, DECAY / ETA),
        torch.optim.AdamW([same_number], ETA, BETAS, EPSILON, DECAY),
    )
    for _ in range(20):
        gradient = torch.randn(7, dtype=torch.float64)
        for parameter, optimizer in zip((ours, theirs, same_number), optimizers, strict=True):
            parameter.grad = gradient.clone()
            optimizer.step()
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
    assert (ours - same_number).abs().max() > 0.01


def test_the_decay_does_not_depend_on_the_learning_rate():
    for eta in (1e-6, 1e-2):
        parameter = torch.nn.Parameter(torch.ones(1, dtype=torch.float64))
        optimizer = DecoupledAdamW([parameter], eta, BETAS, EPSILON, DECAY)
        parameter.grad = torch.zeros(1, dtype=torch.float64)
        optimizer.step()
        assert parameter.item() == pytest.approx(1 - DECAY, abs=1e-15)


def test_only_what_is_trained_is_optimised_with_table_5():
    model = torch.nn.Linear(2, 2)
    model.bias.requires_grad_(False)
    (group,) = build_optimizer(model, PolicyTraining()).param_groups
    assert [each is model.weight for each in group["params"]] == [True]
    assert (group["lr"], group["betas"], group["eps"]) == (2e-6, (0.9, 0.95), 1e-8)
    assert group["weight_decay"] == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("done", "factor"),
    [
        (0, 0.0),
        (250, 0.5),
        (500, 1.0),
        (1750, 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi / 2))),
        (3000, 0.1),
        (9999, 0.1),
    ],
)
def test_the_schedule_is_the_closed_form(done, factor):
    assert schedule_factor(done, 3000, 500, 0.1) == pytest.approx(factor, abs=1e-12)


def test_table_fives_warm_up_leaves_a_short_run_its_learning_rate():
    assert find_warm_up(500, 100_000) == 500
    assert find_warm_up(500, 125) == 31.25
    rates = [schedule_factor(done, 125, find_warm_up(500, 125), 0.1) for done in range(126)]
    assert max(rates) > 0.99
    assert find_warm_up(0, 125) == 0


def test_the_schedule_has_no_division_by_nothing():
    assert schedule_factor(0, 10, 0, 0.1) == 1.0
    assert schedule_factor(5, 5, 5, 0.1) == pytest.approx(1.0)


def build_layers():
    torch.manual_seed(0)
    return torch.nn.ModuleDict({"embed": torch.nn.Embedding(6, 4), "hidden": torch.nn.Linear(4, 4)})


def test_muon_steps_the_hidden_matrices_and_adamw_the_rest_and_both_go_on_from_their_state(monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)  # as torch's own iterates, on any machine
    settings = PolicyTraining(optimizer="muon", learning_rate=ETA, weight_decay=DECAY)
    ours, theirs = build_layers(), build_layers()
    optimizer = build_optimizer(ours, settings)
    matrix = [theirs["hidden"].weight]
    rest = [theirs["embed"].weight, theirs["hidden"].bias]
    separate = (
        torch.optim.Muon(matrix, lr=ETA, weight_decay=DECAY / ETA, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=ETA, betas=BETAS, eps=EPSILON, weight_decay=DECAY / ETA),
    )
    for step in range(6):
        if step == 3:  # saved, loaded into a new one, gone on with
            saved = optimizer.state_dict()
            optimizer = build_optimizer(ours, settings)
            assert isinstance(optimizer, MuonWithAdamW)
            optimizer.load_state_dict(saved)
        for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            one.grad = torch.randn_like(one)
            other.grad = one.grad.clone()
        optimizer.set_factor(0.5)
        optimizer.step()
        for each in separate:
            for group in each.param_groups:
                group["lr"] = ETA * 0.5
            each.step()
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("shape", [(4, 6), (6, 4), (5, 5)])
def test_muon_in_bfloat16_is_torchs_own_to_the_last_bit(shape):
    torch.manual_seed(1)
    ours = torch.nn.Parameter(torch.randn(shape))
    theirs = torch.nn.Parameter(ours.detach().clone())
    pair = (
        Muon([ours], lr=0.02, weight_decay=0.1, dtype=torch.bfloat16),
        torch.optim.Muon([theirs], lr=0.02, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
    )
    for _ in range(5):
        ours.grad = torch.randn(shape)
        theirs.grad = ours.grad.clone()
        for each in pair:
            each.step()
    assert torch.equal(ours, theirs)


def test_a_step_in_float32_is_the_one_in_bfloat16_but_for_rounding():
    torch.manual_seed(2)
    matrix = torch.randn(32, 48)
    single, half = orthogonalise(matrix, torch.float32), orthogonalise(matrix, torch.bfloat16).float()
    assert torch.nn.functional.cosine_similarity(single.flatten(), half.flatten(), 0) > 0.999


def test_a_processor_without_bfloat16_instructions_iterates_in_float32(monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    assert find_iteration_dtype("cpu") is torch.float32
    assert find_iteration_dtype("cuda") is torch.bfloat16
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    assert find_iteration_dtype("cpu") is torch.bfloat16
