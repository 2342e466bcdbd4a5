"""Several trainings from one start, each with the texts in another order, and the mean of their weights.

The uniform model soup of Wortsman et al. 2022 (arXiv 2203.05482, section 2). Trainings that begin at the same weights
end near enough to each other to be averaged, and the mean generalises as their ensemble would, at one model's cost.

Validation does not choose between them: it holds the sources that were trained on, and there a mean is no better. What
it is for shows on sources left out of training, above all in fewer false alarms:
``python benchmarks/ablation.py --profile release base training.averaged=1`` (two and one).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from guardlib.config import Profile
from guardlib.model.dual_branch import DualBranchModel, load_weights
from guardlib.model.inference import score_windows
from guardlib.text.reading import Reader
from guardlib.training.operating_points import ORDER, calibrated_loss, monitor
from guardlib.training.trainer import train

AVERAGE = "average"
_SEED_STEP = 1000  # between the seeds of two orders: far from those that `training.seeds` counts through


def train_averaged(
    model: DualBranchModel,
    reader: Reader,
    train_frame: pd.DataFrame,
    validation_frame: pd.DataFrame,
    profile: Profile,
    folder: Path,
    progress_bar: bool = True,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Train ``training.averaged`` times from ``model`` as it is, and leave it with the mean of the weights.

    The first training writes into ``folder``, the others into ``order_1``, … in it. Each may use all of
    ``training.max_train_tokens``.

    Returns:
        The history of the first training, and a row for each and, last, for what is kept: ``weights`` ("order 0", …,
        "average"), ``calibrated_loss`` and the other figures of the whole validation split. Of a single training, its
        own ``val_loss``.

    Raises:
        What :func:`.trainer.train` raises.
    """
    start = _copy(model)
    ends, histories = [], []
    for order in range(profile.training.averaged):
        load_weights(model, start, "the start of training")
        again = dataclasses.replace(profile, seed=profile.seed + _SEED_STEP * order)
        place = folder / ORDER.format(order) if order else folder
        histories.append(train(model, reader, train_frame, validation_frame, again, place, progress_bar))
        ends.append(_copy(model))
    candidates = {f"order {order}": weights for order, weights in enumerate(ends)}
    if len(ends) == 1:  # nothing to compare
        only = {"weights": next(iter(candidates)), "val_loss": histories[0]["val_loss"].min()}
        return histories[0], pd.DataFrame([only])
    candidates[AVERAGE] = mean_weights(ends)
    # On every validation row: those of the validations in training have already chosen each order's weights. And at
    # fitted temperatures, as the model is used: a mean of weights is less sure than its parts.
    table = []
    for name, weights in candidates.items():
        load_weights(model, weights, name)
        scores = score_windows(
            model, reader, validation_frame["text"].tolist(), profile.evaluation.tokens_per_batch, name
        )
        labels = validation_frame["label"].to_numpy(np.int64)
        loss = {"calibrated_loss": calibrated_loss(scores, labels)}
        table.append({"weights": name} | loss | monitor(scores, labels, profile))
    return histories[0], pd.DataFrame(table)  # the mean comes last, and is what the model holds


def mean_weights(weights: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of each tensor by name; of what is no floating-point number, the first's."""
    return {
        name: torch.stack([part[name] for part in weights]).mean(0) if first.is_floating_point() else first
        for name, first in weights[0].items()
    }


def _copy(model: DualBranchModel) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
