"""Adversarial training on embeddings: the loss of a batch whose embeddings are moved a little against the model.

Discrete text cannot be moved along a gradient, its embeddings can (Miyato et al. 2017, arXiv 1605.07725). ``fgsm``
takes one step along the gradient (Goodfellow et al. 2015, arXiv 1412.6572), ``pgd`` several smaller ones, each
projected back (Madry et al. 2018, arXiv 1706.06083). Sizes are L2 norms per text, as Miyato et al. have them.

Legend: B batch, L tokens, D width.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from guardlib.config import ConfigError, TrainingConfig
from guardlib.model.dual_branch import DualBranchModel
from guardlib.training.examples import TrainingBatch
from guardlib.training.losses import Losses
from guardlib.training.step import forward

METHODS = ("none", "fgsm", "pgd")
_SCALE = 2.0**14  # of the loss, so that its gradients do not vanish in float16; only their direction counts
_STEP_SHARE = 2.5  # pgd steps are this share of epsilon divided by their number, so that the boundary can be reached


def check_adversarial(config: TrainingConfig) -> None:
    """Raise ConfigError for a method that does not exist, or sizes out of range."""
    if config.adversarial not in METHODS:
        raise ConfigError(f"training.adversarial is {config.adversarial!r}; expected one of {', '.join(METHODS)}")
    if not 0 <= config.adversarial_start < 1:
        raise ConfigError(
            f"training.adversarial_start is {config.adversarial_start}; expected 0 (from the first step) to below 1"
        )
    if config.adversarial_epsilon <= 0 or config.adversarial_steps < 1:
        raise ConfigError(
            f"training.adversarial_epsilon is {config.adversarial_epsilon} and training.adversarial_steps is "
            f"{config.adversarial_steps}; expected a positive number and at least 1"
        )


def adversarial_losses(
    model: DualBranchModel, batch: TrainingBatch, config: TrainingConfig, dtype: torch.dtype, progress: float = 1.0
) -> Losses:
    """Losses of ``batch`` at the worst embeddings found within ``config.adversarial_epsilon`` of the true ones.

    Costs a forward and backward pass per step (one for fgsm), and the forward pass of the losses returned. Gradients
    that the model's parameters hold are left as they are.
    """
    with perturbed(model, worst_perturbation(model, batch, config, dtype, progress)):
        return forward(model, batch, config, dtype, progress)[1]


def worst_perturbation(
    model: DualBranchModel, batch: TrainingBatch, config: TrainingConfig, dtype: torch.dtype, progress: float = 1.0
) -> Tensor:
    """What to add to the embeddings [B, L, D] to raise the loss, at most ``config.adversarial_epsilon`` per text."""
    steps = config.adversarial_steps if config.adversarial == "pgd" else 1
    size = config.adversarial_epsilon * (_STEP_SHARE / steps if steps > 1 else 1.0)
    delta_BLD = None
    for _ in range(steps):
        with perturbed(model, delta_BLD) as embeddings:
            loss = forward(model, batch, config, dtype, progress)[1].total
        gradient_BLD = torch.autograd.grad(_SCALE * loss, embeddings[0])[0].float()
        gradient_BLD = gradient_BLD.nan_to_num(posinf=0.0, neginf=0.0)
        moved_BLD = gradient_BLD * (size / norm(gradient_BLD))
        delta_BLD = _project(moved_BLD if delta_BLD is None else delta_BLD + moved_BLD, config.adversarial_epsilon)
    return delta_BLD


@contextmanager
def perturbed(model: DualBranchModel, delta_BLD: Tensor | None) -> Iterator[list[Tensor]]:
    """While open, ``delta_BLD`` (None: nothing) is added to the embeddings, which are put into the list given."""
    seen: list[Tensor] = []

    def add(module, inputs, output_BLD: Tensor) -> Tensor:
        seen.append(output_BLD if delta_BLD is None else output_BLD + delta_BLD.to(output_BLD.dtype))
        return seen[-1]

    hook = model.front.embeddings.register_forward_hook(add)
    try:
        yield seen
    finally:
        hook.remove()


def norm(x_BLD: Tensor) -> Tensor:
    """L2 norm per text, [B, 1, 1], never zero."""
    return x_BLD.flatten(1).norm(dim=1).clamp(min=1e-12)[:, None, None]


def _project(delta_BLD: Tensor, epsilon: float) -> Tensor:
    return delta_BLD * (epsilon / norm(delta_BLD)).clamp(max=1.0)
