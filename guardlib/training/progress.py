"""Where a training stands: what a checkpoint holds beside weights, optimizer and random state."""

from __future__ import annotations

import math
from dataclasses import dataclass, field


@dataclass
class Progress:
    """Everything here is JSON."""

    step: int = 0
    epoch: int = 0
    batch: int = 0  # next batch of the epoch
    tokens: int = 0
    total_tokens: int = 0  # of the whole run, settled at its start: epochs differ a little
    validations: int = 0
    seconds: float = 0.0
    best_loss: float = math.inf
    best_step: int = 0  # at which it was found, and the best weights were written
    bad_validations: int = 0
    rounded: bool = False  # the best loss is one of rounded activations (quantization-aware training)
    history: list[dict] = field(default_factory=list)
    steps: list[dict] = field(default_factory=list)
    scaler: dict = field(default_factory=dict)  # of float16; empty in other precisions
    recent: list[list[float]] = field(default_factory=list)  # losses of each batch since the last validation
    expert_loads: list[list[float]] = field(default_factory=list)  # likewise: share of tokens per expert
