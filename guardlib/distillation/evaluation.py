"""What came across: perplexity, knowledge retained, attention, size and speed.

Legend: N positions, V student vocabulary.
"""

from __future__ import annotations

import copy
import dataclasses
import time
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F

from guardlib.distillation.losses import language_model_loss
from guardlib.distillation.objective import Teacher, pool_attention, take
from guardlib.distillation.pair import LanguageModel, Match
from guardlib.distillation.text import Pieces
from guardlib.evaluation.metrics import mean_interval

TOP = 5  # tokens compared at each position


class Perplexity(NamedTuple):
    """Of one model on one text. Models of different vocabularies compare by ``bits_per_character`` alone.

    The bits are a little low for all: the first token of a sequence is read, not predicted, and its characters count.
    """

    perplexity: float
    bits_per_character: float
    tokens: int


@torch.inference_mode()
def perplexity(model: LanguageModel, pieces: Pieces, side: str = "student", batch_size: int = 16) -> Perplexity:
    """Of the next token, over all tokens of ``pieces`` but the first of each; ``side`` is whose tokens to read."""
    model.model.eval()
    device = next(model.model.parameters()).device
    nll, tokens, characters = 0.0, 0, 0
    for batch in pieces.batches(batch_size):
        batch = batch.to(device)
        ids = getattr(batch, f"{side}_ids")
        mask = getattr(batch, f"{side}_mask")
        logits = model.model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        targets = ids.masked_fill(mask == 0, -100)[:, 1:].flatten()
        count = int((targets != -100).sum())
        nll += float(language_model_loss(logits[:, :-1].flatten(0, 1), targets)) * count
        tokens += count
        characters += int(batch.characters.sum())
    return Perplexity(float(np.exp(nll / tokens)), float(nll / np.log(2) / characters), tokens)


class Retention(NamedTuple):
    """How much of the teacher a student says too, over ``n`` aligned positions: KL(teacher ‖ student) in nats, share of
    positions with the same likeliest token, mean overlap of the five likeliest; cosine of attention rows in 0..1."""

    kl: float
    top1: float
    top5: float
    attention: float
    n: int


@torch.inference_mode()
def retention(
    teacher: LanguageModel, student: LanguageModel, match: Match, pieces: Pieces, batch_size: int = 16
) -> Retention:
    """Teacher against student on a text that neither was trained on nor chosen by; dtypes may differ."""
    student.model.eval()
    device = next(student.model.parameters()).device
    frozen = Teacher(teacher, match, device)
    rows: list[Tensor] = []
    attention: list[Tensor] = []
    for batch in pieces.batches(batch_size):
        batch = batch.to(device)
        knowledge = frozen.read(batch, experts=False)
        output = student.model(
            input_ids=batch.student_ids, attention_mask=batch.student_mask, use_cache=False, output_attentions=True
        )
        logits = take(output.logits, batch.student_at, batch.aligned)
        rows.append(_compare(knowledge.logits, logits))
        ours = pool_attention(output.attentions[-1], batch.student_at, batch.student_segment)
        attention.append(F.cosine_similarity(ours, knowledge.attention, dim=-1)[batch.aligned])
    kl, top1, top5 = torch.cat(rows).mean(0).tolist()
    similarity = torch.cat(attention)
    return Retention(kl, top1, top5, float(similarity.mean()), len(similarity))


def _compare(teacher_NV: Tensor, student_NV: Tensor) -> Tensor:
    """KL, same top token, overlap of the top five: [N, 3]."""
    p, q = F.log_softmax(teacher_NV.float(), dim=-1), F.log_softmax(student_NV.float(), dim=-1)
    kl_N = (p.exp() * (p - q)).sum(-1)
    best_p, best_q = p.topk(TOP).indices, q.topk(TOP).indices
    overlap_N = (best_p[:, :, None] == best_q[:, None, :]).any(-1).float().mean(-1)
    return torch.stack([kl_N, (best_p[:, 0] == best_q[:, 0]).float(), overlap_N], dim=-1)


def compression(teacher: LanguageModel, student: LanguageModel, pieces: Pieces, repeats: int = 3) -> pd.DataFrame:
    """Both models: parameters, bytes in memory, milliseconds per sequence (median of ``repeats``), and the ratios.

    Both on the teacher's device and in its dtype, so that the ratios are those of the models alone.
    """
    like = next(teacher.model.parameters())
    student = dataclasses.replace(student, model=copy.deepcopy(student.model).to(like.device, like.dtype))
    rows = []
    for side, model in (("teacher", teacher), ("student", student)):
        parameters = list(model.model.parameters())
        rows.append(
            {
                "model": side,
                "parameters": sum(p.numel() for p in parameters),
                "bytes": sum(p.numel() * p.element_size() for p in parameters),
                "dtype": str(parameters[0].dtype).removeprefix("torch."),
                "ms_per_sequence": 1000 * _seconds(model, pieces, side, repeats),
            }
        )
    table = pd.DataFrame(rows).set_index("model")
    for column in ("parameters", "bytes", "ms_per_sequence"):
        table[f"{column}_ratio"] = table.loc["teacher", column] / table[column]
    return table.reset_index()


@torch.inference_mode()
def _seconds(model: LanguageModel, pieces: Pieces, side: str, repeats: int) -> float:
    """Seconds per sequence of a forward pass over a batch of 16, after one that warms up."""
    device = next(model.model.parameters()).device
    batch = pieces.batch(range(min(16, len(pieces)))).to(device)
    ids, mask = getattr(batch, f"{side}_ids"), getattr(batch, f"{side}_mask")
    times = []
    for _ in range(repeats + 1):
        if device.type == "cuda":
            torch.cuda.synchronize()
        began = time.perf_counter()
        model.model(input_ids=ids, attention_mask=mask, use_cache=False).logits.float().sum().item()
        times.append(time.perf_counter() - began)
    return float(np.median(times[1:])) / len(ids)


def summarise(runs: pd.DataFrame, metric: str = "perplexity", reference: str = "routed") -> pd.DataFrame:
    """Per recipe the mean of ``metric`` over seeds with its 95 % interval, and the paired difference to ``reference``.

    Differences are taken seed by seed (same initial weights, same batches), which removes what the seeds share.
    """
    wide = runs.pivot(index="seed", columns="recipe", values=metric)
    rows = []
    for recipe in dict.fromkeys(runs["recipe"]):
        mean, low, high = mean_interval(wide[recipe].to_numpy())
        row = {"recipe": recipe, "seeds": len(wide), metric: mean, "low": low, "high": high}
        if recipe != reference and reference in wide:
            row |= dict(
                zip(("difference", "difference_low", "difference_high"),
                    mean_interval((wide[recipe] - wide[reference]).to_numpy()), strict=True)
            )  # fmt: skip
        rows.append(row)
    return pd.DataFrame(rows)


def verdict(summary: pd.DataFrame, reference: str = "routed") -> str:
    """One sentence per control: whether the routed student is better, from the interval of the paired difference.

    What routing itself is worth only ``unrouted`` tells, which has every other part; the interval is over the seeds of
    training, on one teacher and one test text.
    """
    lines = []
    for row in summary[summary["recipe"] != reference].itertuples():
        shown = f"{row.difference:+.2f} [{row.difference_low:+.2f}, {row.difference_high:+.2f}] perplexity"
        if row.difference_low > 0:
            lines.append(f"The routed student beats {row.recipe}: {row.recipe} is {shown} against it.")
        elif row.difference_high < 0:
            lines.append(f"The routed student loses to {row.recipe}: {row.recipe} is {shown} against it.")
        else:
            lines.append(
                f"No difference shown between the routed student and {row.recipe}: {shown}, n {row.seeds} seeds."
            )
    if "unrouted" not in set(summary["recipe"]):
        lines.append("What routing alone is worth was not measured: that takes the recipe 'unrouted'.")
    return "\n".join(lines)
