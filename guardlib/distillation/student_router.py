"""The student-aware router: which of the teacher's experts the student can learn from now.

It has no weights of its own. From the student's hidden states it reads how much the student can hold (*capacity*), from
the distance to the state that each expert alone would leave what is still to be learnt (*gap*). It ranks the experts by
the teacher's gate, tilted towards near experts for a student of little capacity and towards far ones for a student of
much, and starts with one expert per token and ends with four, over a temperature that falls.

Legend: N positions, E experts, D width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F

HISTORY = 100  # steps
MOST_EXPERTS = 4
TEMPERATURE = (2.0, 0.5)  # at the start and at the end
COLLAPSED = 0.95  # of all weight on one expert
_SAMPLE = 1024  # positions that capacity is measured on
_TINY = 1e-9


class Routing(NamedTuple):
    """``weight`` [N, E], rows sum to 1, at most ``experts`` of them above 0; ``gap`` [N, E] in 0..1; scalars."""

    weight: Tensor
    gap: Tensor
    experts: int
    temperature: float
    capacity: float


def effective_rank(states_ND: Tensor) -> float:
    """Share in 0..1 of the directions open to a student's states that they fill: exp of the entropy of their spectrum,
    over the smaller of D and N − 1.

    Roy & Vetterli 2007, "The effective rank", section 2, on the eigenvalues of the covariance. N states lie in at most
    N − 1 directions around their mean, so that a small batch is not taken for a small capacity. States that all lie on
    one line give 1 / D (of enough positions), states spread evenly over all directions give 1; a single one gives 0.
    """
    x = states_ND.detach()[:_SAMPLE].float()
    if len(x) < 2:
        return 0.0
    x = x - x.mean(0)
    spectrum = torch.linalg.eigvalsh(x.T @ x).clamp(min=0)
    share = spectrum / spectrum.sum().clamp(min=_TINY)
    entropy = -(share * (share + _TINY).log()).sum()
    return min(float(entropy.exp()) / min(x.shape[-1], len(x) - 1), 1.0)


class Capacity:
    """Effective rank over the last 100 steps, and where it is going. ``history`` is JSON, for checkpoints."""

    def __init__(self, history: Sequence[float] = ()) -> None:
        self.history = list(history)[-HISTORY:]

    def update(self, value: float) -> None:
        """Take in one step."""
        self.history = [*self.history, value][-HISTORY:]

    @property
    def trend(self) -> float:
        """Slope per step of a straight line through the history; 0 before there are two steps."""
        if len(self.history) < 2:
            return 0.0
        return float(np.polyfit(np.arange(len(self.history)), self.history, 1)[0])

    @property
    def estimate(self) -> float:
        """Mean of the history, plus what the trend adds over half of it (a mean lags so far behind); in 0..1."""
        if not self.history:
            return 0.0
        return float(np.clip(np.mean(self.history) + self.trend * (len(self.history) - 1) / 2, 0, 1))


def knowledge_gap(student_ND: Tensor, experts_END: Tensor) -> Tensor:
    """``(1 − cos) / 2`` between the student's state (at the teacher's width) and each expert's own state, [N, E].

    ``experts_END`` are whole states of the layer (:attr:`.ExpertReading.states`), as the student's is taught to be.
    """
    cosine_EN = F.cosine_similarity(student_ND.detach().float()[None], experts_END.float(), dim=-1)
    return ((1 - cosine_EN.T) / 2).clamp(0, 1)


def experts_at(progress: float, experts: int) -> int:
    """1 at the start to 4 (or all there are) at the end, in equal parts of the run."""
    return min(1 + int(progress * MOST_EXPERTS), MOST_EXPERTS, experts)


def temperature_at(progress: float) -> float:
    """From 2 down to 0.5, geometrically."""
    start, end = TEMPERATURE
    return start * (end / start) ** progress


def route(gate_NE: Tensor, gap_NE: Tensor, capacity: float, progress: float) -> Routing:
    """Weights of the experts: softmax of ``log gate + (2 · capacity − 1) · z(gap)``, over the best few of them.

    ``z`` is the gap less its mean over the experts, over its standard deviation: near and far are relative, since all
    gaps of an untrained student are alike.
    """
    centred = gap_NE - gap_NE.mean(-1, keepdim=True)
    z_NE = centred / centred.square().mean(-1, keepdim=True).sqrt().clamp(min=1e-4)
    score_NE = gate_NE.float().clamp(min=_TINY).log() + (2 * capacity - 1) * z_NE
    count, temperature = experts_at(progress, gate_NE.shape[-1]), temperature_at(progress)
    best_NK, ids_NK = score_NE.topk(count, dim=-1)
    weight_NE = torch.zeros_like(score_NE).scatter(-1, ids_NK, (best_NK / temperature).softmax(dim=-1))
    return Routing(weight_NE, gap_NE, count, temperature, capacity)


class StudentRouter:
    """The router of one run, and its capacity history: one value per optimizer step, of all its batches."""

    def __init__(self, history: Sequence[float] = ()) -> None:
        self.capacity = Capacity(history)
        self._measured: list[float] = []

    def __call__(self, student_ND: Tensor, states_ND: Tensor, gate_NE: Tensor, experts_END: Tensor, progress: float):
        """Route one batch. ``student_ND`` is at the teacher's width, ``states_ND`` the student's own states."""
        self._measured.append(effective_rank(states_ND))
        capacity = self.capacity.estimate if self.capacity.history else self._measured[0]
        return route(gate_NE, knowledge_gap(student_ND, experts_END), capacity, progress)

    def end_step(self, mean: Callable[[float], float] = lambda value: value) -> None:
        """After an optimizer step: its batches become one entry of the history. ``mean`` is that over processes."""
        if self._measured:
            self.capacity.update(mean(float(np.mean(self._measured))))
            self._measured.clear()


def use_of_experts(weight_NE: Tensor) -> list[float]:
    """Share of all weight that each expert had; sums to 1."""
    return weight_NE.detach().float().mean(0).tolist()


def collapse_report(use_E: Sequence[float]) -> dict:
    """``collapsed``, the most used expert, its share, and the entropy of use as a share of the highest possible."""
    use = np.asarray(use_E, float)
    use = use / use.sum()
    entropy = -float((use * np.log(use + _TINY)).sum()) / max(math.log(len(use)), _TINY)
    best = int(use.argmax())
    return {
        "collapsed": bool(len(use) > 1 and use[best] >= COLLAPSED),
        "expert": best,
        "share": float(use[best]),
        "entropy": min(max(entropy, 0.0), 1.0),
    }


def collapse_reports(steps: pd.DataFrame) -> list[dict]:
    """:func:`collapse_report` of a run's logged ``steps``, apart for each number of experts per token.

    A router that is even while it has one expert per token, and later picks the same ones for all, has collapsed too.
    """
    columns = [column for column in steps if column.startswith("expert_use_")]
    columns.sort(key=lambda name: int(name.rsplit("_", 1)[1]))
    return [
        {"experts_per_token": int(experts), **collapse_report(part[columns].mean().tolist())}
        for experts, part in steps.dropna(subset="experts").groupby("experts")
    ]
