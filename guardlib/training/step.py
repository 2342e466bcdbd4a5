"""One batch through model and losses: what the training loop repeats, and what the dry run tries first."""

from __future__ import annotations

import torch

from guardlib.config import TrainingConfig
from guardlib.model.dual_branch import DualBranchModel, DualOutput
from guardlib.model.inference import to_tensors
from guardlib.training.examples import TrainingBatch
from guardlib.training.losses import Losses, total_loss


def forward(
    model: DualBranchModel, batch: TrainingBatch, config: TrainingConfig, dtype: torch.dtype, progress: float = 1.0
) -> tuple[DualOutput, Losses]:
    """Outputs and losses of ``batch`` on the model's device, under autocast where ``dtype`` is not float32.

    Args:
        progress: of training, 0 to 1; some losses grow with it.
    """
    device = next(model.parameters()).device
    labels, planted = (torch.from_numpy(values).to(device) for values in (batch.labels, batch.planted))
    with torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
        output = model(*to_tensors(batch.inputs, device))
    return output, total_loss(output, labels, planted, config, progress)
