"""One batch through model and losses: what the training loop repeats, and what the dry run tries first."""

from __future__ import annotations

import torch

from guardlib.config import TrainingConfig
from guardlib.model.dual_branch import DualBranchModel, DualOutput
from guardlib.model.inference import to_tensors
from guardlib.training.examples import TrainingBatch
from guardlib.training.losses import Losses, total_loss


def forward(
    model: DualBranchModel, batch: TrainingBatch, config: TrainingConfig, dtype: torch.dtype
) -> tuple[DualOutput, Losses]:
    """Outputs and losses of ``batch`` on the model's device; under autocast where ``dtype`` is not float32."""
    device = next(model.parameters()).device
    labels = torch.from_numpy(batch.labels).to(device)
    with torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
        output = model(*to_tensors(batch.inputs, device))
    return output, total_loss(output, labels, config)
