"""BERT's layer (Devlin et al. 2019, arXiv 1810.04805), post-norm, in names this project uses.

Departures from the textbook: attention has no dropout on its weights (which would rule out the fused kernel: a tenth
of the time of a training step on CPU); query, key and value are one matrix; the feed-forward part is passed in, so that
a mixture of experts can stand in its place.

Legend: B batch, L tokens, D width, H heads, F feed-forward width.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LAYER_NORM_EPS = 1e-12  # BERT's


class SelfAttention(nn.Module):
    """Multi-head self-attention. x_BLD, mask_B11L (True: attend) → [B, L, D]."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"d_model ({width}) must be a multiple of num_heads ({heads})")
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x_BLD: Tensor, mask_B11L: Tensor) -> Tensor:
        if torch.compiler.is_exporting():
            return self.out(self._attend_in_graph(*self.qkv(x_BLD).chunk(3, dim=-1), mask_B11L))
        qkv = self.qkv(x_BLD).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # 3, B, H, L, D/H
        return self.out(attend(*qkv.unbind(0), mask_B11L).transpose(1, 2).flatten(2))

    def _attend_in_graph(self, q_BLD: Tensor, k_BLD: Tensor, v_BLD: Tensor, mask_B11L: Tensor) -> Tensor:
        """The same as one ONNX operator, which splits the heads itself; ONNX Runtime wants a row of mask per query."""
        mask_B1LL = mask_B11L.expand(-1, -1, q_BLD.shape[1], -1)
        heads = {"q_num_heads": self.heads, "kv_num_heads": self.heads}
        return torch.onnx.ops.attention(q_BLD, k_BLD, v_BLD, mask_B1LL, **heads)[0]


def attend(q_BHLd: Tensor, k_BHLd: Tensor, v_BHLd: Tensor, mask_B11L: Tensor) -> Tensor:
    """softmax(q kᵀ / √d) v over positions where the mask is True: [B, H, L, d]; what is padding is of no meaning.

    Written out for bfloat16 on CPU, whose fused kernel has a slow gradient: 38 against 8 ms at B 32, L 64, and training
    a fifth faster (measured on an AVX-512 BF16 core).
    """
    if q_BHLd.dtype != torch.bfloat16 or q_BHLd.device.type != "cpu":
        return F.scaled_dot_product_attention(q_BHLd, k_BHLd, v_BHLd, attn_mask=mask_B11L)
    blocked_B11L = (~mask_B11L).to(q_BHLd.dtype) * -1e4
    scores_BHLL = (q_BHLd * q_BHLd.shape[-1] ** -0.5) @ k_BHLd.transpose(-1, -2) + blocked_B11L
    return scores_BHLL.softmax(-1).to(v_BHLd.dtype) @ v_BHLd


class TextDropout(nn.Module):
    """Dropout with one mask for all tokens of a text (Gal & Ghahramani 2016, arXiv 1512.05287): [B, L, D] → the same.

    A CPU draws random numbers on one core; a mask for each token took an eighth of a training step.
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, x_BLD: Tensor) -> Tensor:
        if not self.training or not self.probability:
            return x_BLD
        return x_BLD * F.dropout(torch.ones_like(x_BLD[:, :1]), self.probability)


class FeedForward(nn.Module):
    """Two linear maps with GELU between: [..., D] → [..., D]."""

    def __init__(self, width: int, ffn_width: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, ffn_width)
        self.down = nn.Linear(ffn_width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.gelu(self.up(x)))


class TransformerLayer(nn.Module):
    """Attention and feed-forward, each with residual and LayerNorm after it. Dense; see deep_branch for experts."""

    def __init__(self, width: int, heads: int, ffn_width: int, dropout: float) -> None:
        super().__init__()
        self.attention = SelfAttention(width, heads)
        self.attention_norm = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.ffn = FeedForward(width, ffn_width)
        self.ffn_norm = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.dropout = TextDropout(dropout)

    def forward(self, x_BLD: Tensor, mask_B11L: Tensor) -> Tensor:
        x_BLD = self.attention_norm(x_BLD + self.dropout(self.attention(x_BLD, mask_B11L)))
        return self.ffn_norm(x_BLD + self.dropout(self.ffn(x_BLD)))


#: Width of a pooled state, in widths of a token's.
POOLED = 3


class Pooled(NamedTuple):
    """state [B, 3 D] of each text, and focus [B, L]: the logit of each token's share in it."""

    state: Tensor
    focus: Tensor


class Pool(nn.Module):
    """Mean, maximum and focus over real tokens: [B, L, D] → :class:`Pooled`.

    The mean says what a text is about; the maximum keeps one planted sentence from drowning in a long one. The focus is
    a mean in which a learnt softmax says how much each token counts (Lin et al. 2017, arXiv 1703.03130, eq. 5, with one
    linear map): what a planted sentence says, apart from what is around it.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.focus = nn.Linear(width, 1)

    def forward(self, x_BLD: Tensor, mask_BL: Tensor) -> Pooled:
        keep_BL1 = mask_BL.unsqueeze(-1).to(x_BLD.dtype)
        mean_BD = (x_BLD * keep_BL1).sum(1) / keep_BL1.sum(1).clamp(min=1)
        max_BD = x_BLD.masked_fill(keep_BL1 == 0, -1e4).amax(1)
        focus_BL1 = self.focus(x_BLD)
        share_BL1 = focus_BL1.float().masked_fill(keep_BL1 == 0, -1e4).softmax(1).to(x_BLD.dtype)
        state_BE = torch.cat([mean_BD, max_BD, (x_BLD * share_BL1).sum(1)], dim=-1)
        return Pooled(state_BE, focus_BL1.squeeze(-1))


class ClassifierHead(nn.Module):
    """Pooled state → class logits: [B, 3 D] → [B, K]."""

    def __init__(self, width: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.dense = nn.Linear(POOLED * width, width)
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(width, classes)

    def forward(self, pooled: Tensor) -> Tensor:
        return self.out(self.dropout(F.gelu(self.dense(pooled))))
