"""The router: which texts deserve the deep branch.

It learns to defer (Madras et al. 2018, arXiv 1711.06664): its target is how much probability of the true class the deep
branch would add. It sees the pooled stem state and how unsure the fast head is; gradients stop at its input, so routing
never bends the representation it judges. On training texts both branches are right and there is little to foresee, so
how much the learnt logit, the entropy and the margin each count (``mix``) is settled afterwards, on validation texts
(see training.operating_points.fit_router). What share goes deep is not learnt but set: the threshold is a quantile of
the validation scores (see evaluation.calibration.calibrate_router), which is why the share cannot drift.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from guardlib.model.transformer import POOLED


def uncertainty(fast_logits_BK: Tensor) -> Tensor:
    """Entropy in [0, 1] and margin between the two likeliest classes: [B, K] → [B, 2]."""
    log_p = F.log_softmax(fast_logits_BK.float(), dim=-1)
    p = log_p.exp()
    entropy = -(p * log_p).sum(-1) / torch.log(torch.tensor(float(p.shape[-1])))
    top = p.topk(2, dim=-1).values
    return torch.stack([entropy, top[:, 0] - top[:, 1]], dim=-1)


class Router(nn.Module):
    """Pooled stem state [B, 3 D] and fast logits [B, K] → routing logit [B]; higher: more to gain by going deep."""

    def __init__(self, width: int, hidden: int, use_entropy: bool) -> None:
        super().__init__()
        self.use_entropy = use_entropy
        self.norm = nn.LayerNorm(POOLED * width)
        self.hidden = nn.Linear(POOLED * width + 2 * use_entropy, hidden)
        self.out = nn.Linear(hidden, 1)
        if use_entropy:  # of learnt logit, entropy, margin; no parameter: never trained by gradient
            self.register_buffer("mix", torch.tensor([1.0, 0.0, 0.0]))

    def forget(self) -> None:
        """Undo the fit on validation texts: the learnt logit alone counts, as in training."""
        if self.use_entropy:
            self.mix.copy_(torch.tensor([1.0, 0.0, 0.0]))

    def forward(self, pooled: Tensor, fast_logits_BK: Tensor) -> Tensor:
        features = self.norm(pooled.detach())
        if not self.use_entropy:
            return self.out(F.gelu(self.hidden(features))).squeeze(-1)
        unsure = uncertainty(fast_logits_BK.detach())
        logit_B1 = self.out(F.gelu(self.hidden(torch.cat([features, unsure.to(features.dtype)], dim=-1))))
        return torch.cat([logit_B1.float(), unsure], dim=-1) @ self.mix
