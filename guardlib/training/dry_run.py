"""What can go wrong in a long run, tried in a minute: shapes, gradients, one batch learnt by heart, speed."""

from __future__ import annotations

import copy
import time

import numpy as np
import pandas as pd
import psutil

from guardlib.config import Profile
from guardlib.labels import NUM_CLASSES
from guardlib.model.build import Guardrail
from guardlib.model.inference import pick_device
from guardlib.text.tokenizer import UNK
from guardlib.training.examples import Epoch, TrainingBatch
from guardlib.training.step import forward
from guardlib.training.trainer import make_optimizer, make_scaler, pick_precision, token_budget

_OVERFIT_STEPS = 12


def vocabulary_coverage(guardrail: Guardrail, frame: pd.DataFrame, rows: int = 2000, seed: int = 0) -> pd.DataFrame:
    """Per language: texts, pieces per word, share of pieces read by characters alone ([UNK]); from a sample of rows."""
    sample = frame.sample(min(rows, len(frame)), random_state=seed)
    pieces = guardrail.reader.tokenizer.encode(sample["text"].str[:1000].tolist())
    table = pd.DataFrame(
        {
            "language": sample["lang"].replace("", "not stated").to_numpy(),
            "pieces": [len(p) for p in pieces],
            "words": sample["text"].str[:1000].str.split().str.len().to_numpy(),
            "unknown": [int((p.ids == UNK).sum()) for p in pieces],
        }
    )
    totals = table.groupby("language").agg(
        texts=("pieces", "size"), pieces=("pieces", "sum"), words=("words", "sum"), unknown=("unknown", "sum")
    )
    totals["pieces_per_word"] = totals["pieces"] / totals["words"].clip(lower=1)
    totals["characters_only"] = totals["unknown"] / totals["pieces"].clip(lower=1)
    return totals.sort_values("texts", ascending=False)[["texts", "pieces_per_word", "characters_only"]].reset_index()


def dry_run(guardrail: Guardrail, frame: pd.DataFrame, profile: Profile) -> pd.DataFrame:
    """Learn one batch by heart, on a copy of the model. Adversarial steps and rounding are not tried, nor their time.

    Returns:
        One row per check: ``check, expected, measured, passed``.
    """
    config = profile.training
    device = pick_device()
    dtype = pick_precision(config.precision, device, scaled=True)
    model = copy.deepcopy(guardrail.model).to(device).train()
    epoch = Epoch(frame, guardrail.reader, config, seed=profile.seed, epoch=0)
    batch = _mixed_batch(epoch)
    optimizer, scaler = make_optimizer(model, config), make_scaler(device, dtype)
    losses, seconds, output = [], [], None
    for _ in range(_OVERFIT_STEPS):
        started = time.perf_counter()
        output, (loss, *_) = forward(model, batch, config, dtype)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        without = [name for name, p in model.named_parameters()
               if p.requires_grad and (p.grad is None or not p.grad.isfinite().all())]  # fmt: skip
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
        seconds.append(time.perf_counter() - started)
    speed = batch.tokens / float(np.median(seconds))
    tokens = token_budget(config, epoch.tokens, dtype) * config.seeds
    memory = psutil.Process().memory_info().rss / 2**30
    rows = len(batch.labels)
    shapes_ok = output.fast_logits.shape == output.deep_logits.shape == (rows, NUM_CLASSES)
    first, last = losses[0], losses[-1]
    used = output.expert_load > 0
    checks = [
        ("logits of both branches", f"[{rows}, {NUM_CLASSES}]", str(list(output.deep_logits.shape)), shapes_ok),
        ("parameters without a finite gradient", "none", ", ".join(without[:3]) or "none", not without),
        ("one batch learnt by heart: loss", f"< {first / 2:.3f}", f"{first:.3f} → {last:.3f}", last < first / 2),
        ("experts used", f"{profile.model.num_experts} in each layer", str(used.sum(1).tolist()), bool(used.all())),
        ("device, precision", "any", f"{device.type}, {str(dtype).removeprefix('torch.')}", True),
        ("speed", "any", f"{speed:,.0f} tokens/s", True),
        ("training will take", "any", f"{tokens / speed / 60:.1f} min for {tokens:,.0f} tokens", True),
        ("memory now", "≤ 6 GB", f"{memory:.1f} GB", memory <= 6),
    ]
    return pd.DataFrame(checks, columns=["check", "expected", "measured", "passed"])


def _mixed_batch(epoch: Epoch) -> TrainingBatch:
    """The first batch with at least two classes in it (a batch of one class is learnt by its bias alone)."""
    for index in range(len(epoch)):
        batch = epoch[index]
        if len(set(batch.labels.tolist())) > 1 and len(batch.labels) > 3:
            return batch
    raise ValueError(
        "no training batch holds two classes; expected benign and attack rows: run 01 again with other data "
        "(--data, data.files)"
    )


class DryRunFailed(RuntimeError):
    """A check of the dry run failed; training would waste its time."""


def require_passed(checks: pd.DataFrame) -> None:
    """Raise DryRunFailed naming the checks that failed."""
    failed = checks[~checks["passed"]]
    if len(failed):
        lines = [f"{row.check}: expected {row.expected}, measured {row.measured}" for row in failed.itertuples()]
        raise DryRunFailed(
            f"{'; '.join(lines)} (memory: lower training.tokens_per_batch; a loss that does not fall: try another "
            "training.learning_rate)"
        )
