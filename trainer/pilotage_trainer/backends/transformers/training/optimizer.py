"""Decoupled AdamW, Muon, and the learning rate's schedule: closed forms of a step's number, nothing to restore."""

import math
from collections.abc import Iterable
from typing import Any

import torch

from pilotage_core.training import Optimisation, Optimizer

MOST_WARM_UP = 0.25
"""The largest share of a run that is warm-up."""


class DecoupledAdamW(torch.optim.AdamW):
    """AdamW whose weights shrink by `weight_decay` × schedule a step, whatever the learning rate is.

    Loshchilov & Hutter 2019, as MosaicML's Composer has it (the paper trained with that):
    p ← p (1 − (η_t/η_0) λ) − η_t m̂ / (√v̂ + ε). torch's AdamW shrinks by η_t λ instead; given λ/η_0 it is the same, so
    torch's own kernels do the work.
    """

    def __init__(
        self,
        params: Iterable[torch.nn.Parameter],
        lr: float,
        betas: tuple[float, float],
        eps: float,
        weight_decay: float,
        fused: bool | None = None,
    ) -> None:
        super().__init__(list(params), lr=lr, betas=betas, eps=eps, weight_decay=weight_decay / lr, fused=fused)
        for group in self.param_groups:
            group["initial_lr"] = lr

    def set_factor(self, factor: float) -> None:
        """Go by `factor` × the initial learning rate from now on."""
        for group in self.param_groups:
            group["lr"] = group["initial_lr"] * factor


NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""Coefficients of the quintic iteration (Jordan 2024), five times: as torch.optim.Muon has them."""


class Muon(torch.optim.Optimizer):
    """Momentum whose step is made orthogonal, scaled to AdamW's root mean square; weights shrink by η λ.

    torch.optim.Muon with Nesterov momentum 0.95 and `adjust_lr_fn="match_rms_adamw"`, to the last bit where `dtype` is
    bfloat16. That one always iterates in bfloat16, which on a processor without such instructions takes four fifths of
    all training; this one takes the type it is told (`find_iteration_dtype`).
    """

    def __init__(
        self, params: Iterable[torch.nn.Parameter], lr: float, weight_decay: float, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__(list(params), {"lr": lr, "weight_decay": weight_decay, "momentum": 0.95})
        self.dtype = dtype

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        """One step of every matrix that has a gradient."""
        for group in self.param_groups:
            for weights in group["params"]:
                if weights.grad is None:
                    continue
                state = self.state[weights]
                if not state:
                    state["momentum_buffer"] = torch.zeros_like(weights.grad, memory_format=torch.preserve_format)
                momentum = state["momentum_buffer"].lerp_(weights.grad, 1 - group["momentum"])
                update = weights.grad.lerp(momentum, group["momentum"])
                direction = orthogonalise(update, self.dtype or find_iteration_dtype(weights.device.type))
                weights.mul_(1 - group["lr"] * group["weight_decay"])
                weights.add_(direction, alpha=-group["lr"] * 0.2 * math.sqrt(max(weights.shape)))


def find_iteration_dtype(device: str) -> torch.dtype:
    """bfloat16 where the processor multiplies in it, float32 elsewhere: the same steps to three digits, faster."""
    native = device == "cuda" or torch.cpu._is_avx512_bf16_supported()
    return torch.bfloat16 if native else torch.float32


def orthogonalise(matrix: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """About U Vᵀ of `matrix` (rows, columns) = U S Vᵀ, by five Newton–Schulz steps in `dtype`."""
    a, b, c = NEWTON_SCHULZ
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.to(dtype, copy=True)
    x = x.T if tall else x
    x.div_(x.norm().clamp(min=1e-7))
    for _ in range(5):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if tall else x


class MuonWithAdamW(torch.optim.Optimizer):
    """Muon for matrices of hidden layers, AdamW for embeddings and vectors; one optimiser to whoever steps or saves it.

    Steps are scaled to AdamW's root mean square (Liu et al. 2025), so one learning rate serves both; weights shrink by
    `weight_decay` × schedule in both. `Muon` and torch.optim.AdamW do the work on shared groups and state.
    """

    def __init__(
        self,
        matrices: list[torch.nn.Parameter],
        others: list[torch.nn.Parameter],
        lr: float,
        betas: tuple[float, float],
        eps: float,
        weight_decay: float,
    ) -> None:
        self.parts: tuple[torch.optim.Optimizer, ...] = (
            Muon(matrices, lr=lr, weight_decay=weight_decay / lr),
            torch.optim.AdamW(others, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay / lr, fused=True),
        )
        super().__init__([group for part in self.parts for group in part.param_groups], {})
        for group in self.param_groups:
            group["initial_lr"] = lr
        self._share()

    def set_factor(self, factor: float) -> None:
        """Go by `factor` × the initial learning rate from now on."""
        for group in self.param_groups:
            group["lr"] = group["initial_lr"] * factor

    def step(self, closure: Any = None) -> None:
        """One step of each."""
        for part in self.parts:
            part.step()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from `state_dict`."""
        super().load_state_dict(state_dict)
        self._share()

    def _share(self) -> None:
        for part, group in zip(self.parts, self.param_groups, strict=True):
            part.param_groups, part.state = [group], self.state


def build_optimizer(model: torch.nn.Module, settings: Optimisation) -> DecoupledAdamW | MuonWithAdamW:
    """The optimiser of those weights of `model` that are trained."""
    betas = (settings.beta_1, settings.beta_2)
    rate, epsilon, decay = settings.learning_rate, settings.epsilon, settings.weight_decay
    trained = {name: each for name, each in model.named_parameters() if each.requires_grad}
    if settings.optimizer is Optimizer.DECOUPLED_ADAMW:
        return DecoupledAdamW(trained.values(), rate, betas, epsilon, decay, fused=True)
    matrices = {name for name, each in trained.items() if each.ndim == 2 and "embed" not in name and "head" not in name}
    return MuonWithAdamW(
        [trained[name] for name in trained if name in matrices],
        [trained[name] for name in trained if name not in matrices],
        rate, betas, epsilon, decay,
    )  # fmt: skip


def find_warm_up(wanted: int, total: float) -> float:
    """Batches of warm-up in a run of `total`: as many as are `wanted`, and at most MOST_WARM_UP of them.

    Table 5's 500 batches are of the paper's data. 50,000 sessions packed into rows of 32,768 tokens are some 125: the
    learning rate would end at a quarter of what is set.
    """
    return min(float(wanted), MOST_WARM_UP * total)


def schedule_factor(done: float, total: float, warm_up: float, final_share: float) -> float:
    """What the learning rate is multiplied by after `done` of `total` batches.

    Rises as a line to 1 over `warm_up` batches (0 before the first), then falls as half a cosine to `final_share` at
    `total`, and stays there.
    """
    if done < warm_up:
        return done / warm_up
    progress = min((done - warm_up) / max(total - warm_up, 1e-9), 1.0)
    return final_share + (1.0 - final_share) * 0.5 * (1.0 + math.cos(math.pi * progress))
