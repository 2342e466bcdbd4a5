"""The deep branch: transformer layers whose feed-forward part is a mixture of experts.

Sparse upcycling (Komatsuzaki et al. 2023, arXiv 2212.05055): every expert starts as the backbone's dense feed-forward
part. One expert per token (Switch Transformer, Fedus et al. 2022, arXiv 2101.03961) with one departure: the chosen
expert's output is not scaled by its gate probability p but by p / stop_gradient(p), which is 1 in value and carries p's
gradient. So at step 0 the layer *is* the dense layer, at the cost of one, and the gate still learns.

Legend: B batch, L tokens, T = B L, D width, E experts, K classes.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from guardlib.model.transformer import ClassifierHead, FeedForward, Pool, TransformerLayer

#: Under autocast on a CPU an expert's tokens are filled up to a multiple of this. There a multiplication of a new shape
#: first compiles a kernel, which takes milliseconds; multiples of 64 are few shapes, at 6 % more rows.
_ROWS_MULTIPLE = 64


class ExpertOutput(NamedTuple):
    """y [B, L, D], balance_loss scalar, load [E] (share of real tokens per expert)."""

    y: Tensor
    balance_loss: Tensor
    load: Tensor


class DeepOutput(NamedTuple):
    """logits [B, K], balance_loss scalar (mean over layers), load [layers, E], focus [B, L]."""

    logits: Tensor
    balance_loss: Tensor
    load: Tensor
    focus: Tensor


class MixtureOfExperts(nn.Module):
    """Top-1 mixture over tokens. The gate runs in float32 whatever the precision around it."""

    def __init__(self, width: int, ffn_width: int, experts: int) -> None:
        super().__init__()
        self.gate = nn.Linear(width, experts, bias=False)
        nn.init.normal_(self.gate.weight, std=0.02)
        self.experts = nn.ModuleList(FeedForward(width, ffn_width) for _ in range(experts))

    def forward(self, x_BLD: Tensor, mask_BL: Tensor) -> ExpertOutput:
        x_TD = x_BLD.flatten(0, 1)
        p_TE = self.gate_probabilities(x_TD)
        p_T, choice_T = p_TE.max(dim=-1)
        y_TD = self._mix(x_TD, choice_T)
        y_TD = y_TD * (p_T / p_T.detach()).to(y_TD.dtype).unsqueeze(-1)
        real_T = mask_BL.flatten().float()
        tokens = real_T.sum().clamp(min=1)
        chosen_TE = F.one_hot(choice_T, len(self.experts)).float()
        load_E = (chosen_TE * real_T[:, None]).sum(0) / tokens
        mean_p_E = (p_TE * real_T[:, None]).sum(0) / tokens
        balance = len(self.experts) * (load_E * mean_p_E).sum()  # Switch Transformer, eq. 4; 1 when perfectly even
        return ExpertOutput(y_TD.view_as(x_BLD), balance, load_E)

    def gate_probabilities(self, x: Tensor) -> Tensor:
        """[..., D] → [..., E], float32."""
        with torch.autocast(device_type=x.device.type, enabled=False):
            return F.softmax(F.linear(x.float(), self.gate.weight.float()), dim=-1)

    def _mix(self, x_TD: Tensor, choice_T: Tensor) -> Tensor:
        """Each token through its expert."""
        if torch.compiler.is_exporting():
            return self._mix_in_graph(x_TD, choice_T)
        order_T = torch.argsort(choice_T)
        counts = torch.bincount(choice_T, minlength=len(self.experts)).tolist()
        parts = x_TD[order_T].split(counts)
        multiple = _ROWS_MULTIPLE if torch.is_autocast_enabled("cpu") else 1
        filled = (F.pad(part, (0, 0, 0, -len(part) % multiple)) for part in parts)
        mixed = torch.cat([expert(x)[:n] for expert, x, n in zip(self.experts, filled, counts, strict=True)])
        return torch.empty_like(mixed).index_copy(0, order_T, mixed)

    def _mix_in_graph(self, x_TD: Tensor, choice_T: Tensor) -> Tensor:
        """The same for an exported graph, which has no data-dependent loop: each expert gathers its own tokens.

        A row of zeros that every expert takes keeps each busy (quantizing an empty tensor fails); it is dropped.
        """
        tokens = x_TD.shape[0]
        padded_SD = torch.cat([x_TD, x_TD.new_zeros(1, x_TD.shape[1])])  # S = T + 1
        mixed_SD = torch.zeros_like(padded_SD)
        everyone = torch.ones(1, dtype=torch.bool, device=x_TD.device)
        for index, expert in enumerate(self.experts):
            rows = torch.cat([choice_T == index, everyone]).nonzero().squeeze(-1)
            mixed_SD = mixed_SD.index_copy(0, rows, expert(padded_SD.index_select(0, rows)))
        return mixed_SD[:tokens]


class ExpertLayer(nn.Module):
    """A transformer layer with experts in place of its feed-forward part."""

    def __init__(self, dense: TransformerLayer, experts: MixtureOfExperts) -> None:
        super().__init__()
        self.attention = dense.attention
        self.attention_norm = dense.attention_norm
        self.experts = experts
        self.ffn_norm = dense.ffn_norm
        self.dropout = dense.dropout

    def upcycle(self, ffn: FeedForward) -> None:
        """Make every expert a copy of ``ffn``."""
        for expert in self.experts.experts:
            expert.load_state_dict(ffn.state_dict())

    def forward(self, x_BLD: Tensor, mask_BL: Tensor) -> ExpertOutput:
        mask_B11L = mask_BL.bool()[:, None, None, :]
        x_BLD = self.attention_norm(x_BLD + self.dropout(self.attention(x_BLD, mask_B11L)))
        mixed = self.experts(x_BLD, mask_BL)
        return mixed._replace(y=self.ffn_norm(x_BLD + self.dropout(mixed.y)))


class DeepBranch(nn.Module):
    """Stem state → expert layers → head: [B, L, D] → :class:`DeepOutput`."""

    def __init__(self, layers: list[ExpertLayer], pool: Pool, head: ClassifierHead) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.pool = pool
        self.head = head

    def forward(self, hidden_BLD: Tensor, attention_mask_BL: Tensor) -> DeepOutput:
        balance, load = [], []
        for layer in self.layers:
            output = layer(hidden_BLD, attention_mask_BL)
            hidden_BLD = output.y
            balance.append(output.balance_loss)
            load.append(output.load)
        pooled, focus_BL = self.pool(hidden_BLD, attention_mask_BL)
        return DeepOutput(self.head(pooled), torch.stack(balance).mean(), torch.stack(load), focus_BL)
