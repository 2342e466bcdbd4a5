"""The teacher's experts, asked one by one: what would each have said, alone, of the same token?

Works on any ``transformers`` model whose mixture blocks have a ``gate`` and ``experts`` that take (states, chosen
experts, weights): Mixtral, Qwen-MoE, OLMoE and their kin. Experts that every token goes through (Qwen2-MoE's shared
one) are nobody's choice: what they add is part of the state that the others find.

Legend: B sequences, L tokens, N positions, E experts, D the teacher's width.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import torch
from torch import Tensor, nn

_LAYER = re.compile(r"\.(\d+)\.")


class ExpertReading(NamedTuple):
    """``residual`` [N, D]: the layer's state without its experts; ``outputs`` [E, N, D]: what each expert adds to it;
    ``gate`` [N, E]: the teacher's own probabilities of them."""

    residual: Tensor
    outputs: Tensor
    gate: Tensor

    def state(self, weight_NE: Tensor) -> Tensor:
        """The layer's state had it mixed its experts by ``weight``, [N, D]; exact where the weights are its own."""
        mixed = torch.einsum("ne,end->nd", weight_NE.to(self.outputs.dtype), self.outputs)
        return self.residual + mixed

    @property
    def states(self) -> Tensor:
        """The layer's state had it asked each expert alone, [E, N, D]."""
        return self.residual + self.outputs


def expert_layers(model: nn.Module) -> dict[int, str]:
    """Layer number → name of its mixture block; empty for a dense model."""
    found = {}
    for name, module in model.named_modules():
        if hasattr(module, "gate") and isinstance(getattr(module, "experts", None), nn.Module):
            number = _LAYER.search(name)
            if number:
                found[int(number[1])] = name
    return found


class ExpertProbe:
    """Listens to one mixture layer while the teacher reads, then asks all of its experts. Use as a context manager.

    ``after`` [B, L, D] is the state the layer leaves, before any norm that follows it.
    """

    def __init__(self, model: nn.Module, layer: int) -> None:
        name = expert_layers(model)[layer]
        self._block = model.get_submodule(name)
        self._owner = model.get_submodule(name.rpartition(".")[0])
        self._hooks: list = []

    def __enter__(self) -> ExpertProbe:
        self._hooks = [
            self._block.experts.register_forward_hook(self._heard_experts),
            self._owner.register_forward_hook(self._heard_layer),
        ]
        return self

    def __exit__(self, *_) -> None:
        for hook in self._hooks:
            hook.remove()

    def _heard_experts(self, _, inputs, output) -> None:
        self._seen, self._mixed = inputs[0], output  # [B L, D] each; a shared expert is not among them

    def _heard_layer(self, _, __, output) -> None:
        self.after = _first(output)

    @torch.no_grad()
    def read(self, take) -> ExpertReading:
        """Every expert's own output. ``take`` picks the positions: [B, L, D] → [N, D]."""
        x_ND = take(self._seen.view_as(self.after))
        residual_ND = take(self.after - self._mixed.view_as(self.after))  # now: from here on experts are heard again
        gate_NE = _first(self._block.gate(x_ND)).float().softmax(dim=-1)
        one_N1 = torch.ones(len(x_ND), 1, dtype=x_ND.dtype, device=x_ND.device)
        outputs = [
            self._block.experts(x_ND, torch.full_like(one_N1, expert, dtype=torch.int64), one_N1)
            for expert in range(gate_NE.shape[-1])
        ]
        return ExpertReading(residual_ND, torch.stack(outputs), gate_NE)


def _first(output):
    return output[0] if isinstance(output, tuple) else output
