"""Decoupled AdamW and the learning rate's schedule: both closed forms, so that nothing of them needs to be restored."""

import math
from collections.abc import Iterable

import torch

from pilotage_core.training import Optimisation


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


def build_optimizer(model: torch.nn.Module, settings: Optimisation) -> DecoupledAdamW:
    """The optimiser of those weights of `model` that are trained."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return DecoupledAdamW(
        trained,
        lr=settings.learning_rate,
        betas=(settings.beta_1, settings.beta_2),
        eps=settings.epsilon,
        weight_decay=settings.weight_decay,
        fused=True,
    )


def schedule_factor(done: float, total: float, warm_up: float, final_share: float) -> float:
    """What the learning rate is multiplied by after `done` of `total` batches.

    Rises as a line to 1 over `warm_up` batches (0 before the first), then falls as half a cosine to `final_share` at
    `total`, and stays there.
    """
    if done < warm_up:
        return done / warm_up
    progress = min((done - warm_up) / max(total - warm_up, 1e-9), 1.0)
    return final_share + (1.0 - final_share) * 0.5 * (1.0 + math.cos(math.pi * progress))
