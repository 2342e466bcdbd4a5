"""Scoring texts with the torch model: both branches on every window. What is made of the outputs: runtime.decision."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import torch
from tqdm.auto import tqdm

from guardlib.labels import NUM_CLASSES
from guardlib.model.dual_branch import DualBranchModel
from guardlib.runtime.decision import Calibration, TextScores, WindowScores, decide, softmax
from guardlib.text.reading import Batch, Reader, batches_by_length, distinct_windows

__all__ = ["Calibration", "TextScores", "WindowScores", "decide", "score_windows", "softmax", "to_tensors"]


def to_tensors(batch: Batch, device: torch.device | str = "cpu") -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """``input_ids`` [B, L], ``char_ids`` [B, L, C], ``attention_mask`` [B, L] on ``device``, the model's input."""
    arrays = (batch.input_ids, batch.char_ids, batch.attention_mask)
    return tuple(torch.from_numpy(array).to(device) for array in arrays)


def pick_device() -> torch.device:
    """The first CUDA device where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def score_windows(
    model: DualBranchModel, reader: Reader, texts: Sequence[str], tokens_per_batch: int, progress: str = ""
) -> WindowScores:
    """Run both branches over every different window of ``texts``; ``progress`` labels a bar ('' for none)."""
    started = time.perf_counter()
    windows = reader.windows(texts)
    read, places = distinct_windows(windows)
    fast = np.zeros((len(read), NUM_CLASSES), np.float32)
    deep = np.zeros_like(fast)
    router = np.zeros(len(read), np.float32)
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    bar = tqdm(total=len(read), desc=progress, unit="window", disable=not progress, leave=False)
    with torch.inference_mode(), bar:
        for rows in batches_by_length([len(window) for window in read], tokens_per_batch):
            batch = reader.collate([read[row] for row in rows])
            output = model(*to_tensors(batch, device))
            fast[rows] = output.fast_logits.float().cpu().numpy()
            deep[rows] = output.deep_logits.float().cpu().numpy()
            router[rows] = output.router_logit.float().cpu().numpy()
            bar.update(len(rows))
    model.train(was_training)
    seconds = time.perf_counter() - started
    return WindowScores(windows, fast[places], deep[places], router[places], len(texts), seconds)
