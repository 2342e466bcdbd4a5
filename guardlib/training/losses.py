"""The losses of the dual-branch model, each a small function.

Legend: B batch, K classes.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from guardlib.config import ConfigError, TrainingConfig
from guardlib.model.dual_branch import DualOutput


class Losses(NamedTuple):
    """Scalars: ``total`` is the weighted sum that is minimised, the others are unweighted parts."""

    total: Tensor
    fast: Tensor
    deep: Tensor
    router: Tensor
    balance: Tensor
    planted: Tensor


def focal_loss(logits_BK: Tensor, labels_B: Tensor, alpha: float, gamma: float) -> Tensor:
    """Mean of ``−α (1 − p)^γ log p`` over the true class (Lin et al. 2017, arXiv 1708.02002, eq. 5), one α for all.

    With γ = 0 and α = 1 it is cross entropy. Computed in float32.
    """
    log_p = F.log_softmax(logits_BK.float(), dim=-1).gather(1, labels_B[:, None]).squeeze(1)
    return (-alpha * (1 - log_p.exp()).pow(gamma) * log_p).mean()


def deferral_target(fast_logits_BK: Tensor, deep_logits_BK: Tensor, labels_B: Tensor) -> Tensor:
    """What going deep would gain: probability of the true class, deep minus fast, mapped from [−1, 1] to [0, 1] → [B].

    A graded target, because on training texts outright errors that deep repairs are too rare to learn from.
    """
    fast = F.softmax(fast_logits_BK.detach().float(), dim=-1).gather(1, labels_B[:, None]).squeeze(1)
    deep = F.softmax(deep_logits_BK.detach().float(), dim=-1).gather(1, labels_B[:, None]).squeeze(1)
    return (deep - fast + 1) / 2


def router_loss(router_logit_B: Tensor, target_B: Tensor) -> Tensor:
    """Binary cross entropy between the routing logit and the graded deferral target, less the target's own entropy.

    Subtracting the entropy changes no gradient and makes 0 the perfect score.
    """
    entropy = F.binary_cross_entropy(target_B, target_B)
    return F.binary_cross_entropy_with_logits(router_logit_B.float(), target_B) - entropy


def planted_loss(focus_BL: Tensor, planted_BL: Tensor) -> Tensor:
    """Binary cross entropy of where the focus lies against where the planted instruction stands; mean over [B, L].

    Tokens of which that is not known (−1 in ``planted_BL``; 1: planted, 0: not) count as no loss, but in the mean:
    among prompts that are no documents the few that are weigh no more than among their like.
    """
    known_BL = planted_BL >= 0
    target_BL = planted_BL.clamp(min=0).float()
    return (F.binary_cross_entropy_with_logits(focus_BL.float(), target_BL, reduction="none") * known_BL).mean()


def router_weight(progress: float, config: TrainingConfig) -> float:
    """Weight of the router's loss at ``progress`` in [0, 1]: while the branches are new, their gains say little."""
    rising = progress < config.router_warmup_share
    return config.router_loss_weight * (progress / config.router_warmup_share if rising else 1.0)


def check_losses(config: TrainingConfig) -> None:
    """Raise ConfigError for a warm-up of the router's loss that is no share of training, or a γ without a gradient."""
    if config.focal_gamma != 0 and not config.focal_gamma >= 1:
        raise ConfigError(
            f"training.focal_gamma is {config.focal_gamma}; expected 0 (cross entropy) or 1 and more: between them the "
            "gradient is infinite where the model is sure"
        )
    if not 0 <= config.router_warmup_share <= 1:
        raise ConfigError(
            f"training.router_warmup_share is {config.router_warmup_share}; expected 0 (none) to 1 (all of training)"
        )


def total_loss(
    output: DualOutput, labels_B: Tensor, planted_BL: Tensor, config: TrainingConfig, progress: float = 1.0
) -> Losses:
    """Focal loss of both branches + router loss + expert balance loss + planted loss of both, weighed by ``config``.

    Args:
        labels_B: int64 [B].
        planted_BL: which tokens an attacker planted, int8 [B, L]; see :func:`planted_loss`.
    """
    fast = focal_loss(output.fast_logits, labels_B, config.focal_alpha, config.focal_gamma)
    deep = focal_loss(output.deep_logits, labels_B, config.focal_alpha, config.focal_gamma)
    target = deferral_target(output.fast_logits, output.deep_logits, labels_B)
    router = router_loss(output.router_logit, target)
    balance = output.balance_loss.float()
    planted = planted_loss(output.fast_focus, planted_BL) + planted_loss(output.deep_focus, planted_BL)
    total = fast + deep + router_weight(progress, config) * router + config.balance_loss_weight * balance
    total = total + config.planted_loss_weight * planted
    return Losses(total, *(part.detach() for part in (fast, deep, router, balance, planted)))


def is_finite(losses: Losses) -> bool:
    """Whether the total can be stepped on."""
    return bool(torch.isfinite(losses.total))
