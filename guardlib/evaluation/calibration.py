"""Operating points: temperature of the logits and the router's threshold.

All of it is fitted on the validation split; nothing here may ever see a benchmark.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from guardlib.runtime.thresholds import above

TEMPERATURE_RANGE = (0.05, 20.0)
#: Rates of false positives at which thresholds are stored with the model, and recall is measured.
TARGET_FPRS = (0.001, 0.01, 0.05)


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature T > 0 that minimises the negative log-likelihood of ``softmax(logits / T)``.

    Args:
        logits: [N, K] float.
        labels: [N] int, 0 ≤ label < K.

    Guo et al., "On Calibration of Modern Neural Networks", 2017 (arXiv 1706.04599), section 4.2. The order of classes
    does not change, so no decision by arg max does. The result stays within ``TEMPERATURE_RANGE``: perfectly separated
    rows would drive it to 0.
    """
    logits, labels = np.asarray(logits, dtype=np.float64), np.asarray(labels)
    if logits.ndim != 2 or len(logits) == 0 or labels.shape != (len(logits),):
        raise ValueError(f"logits have shape {logits.shape} and labels {labels.shape}; expected [N, K] and [N], N > 0")
    if not np.isfinite(logits).all():
        raise ValueError("logits hold NaN or infinity; expected finite numbers (did training diverge?)")
    if labels.min() < 0 or labels.max() >= logits.shape[1]:
        raise ValueError(f"labels run from {labels.min()} to {labels.max()}; expected 0 to {logits.shape[1] - 1}")
    rows = np.arange(len(labels))

    def loss(log_temperature: float) -> float:
        return -float(log_softmax(logits / np.exp(log_temperature), axis=1)[rows, labels].mean())

    best = minimize_scalar(loss, bounds=tuple(np.log(TEMPERATURE_RANGE)), method="bounded", options={"xatol": 1e-6})
    return float(np.exp(best.x))


def calibrate_router(scores: np.ndarray, budget: float) -> float:
    """The threshold at which the share of rows sent deep (``score >= threshold``) is nearest to ``budget``.

    Args:
        scores: [N] router scores, higher = more in need of the deep branch; any finite scale.
        budget: wanted deep share, 0 ≤ budget ≤ 1.

    Ties: rows with equal scores go the same way, so the share may miss the budget by up to half of the largest tie; of
    two thresholds equally near, the one that sends fewer rows deep is taken. A router that gives every row the same
    score gets a share of 0 or 1: see :func:`guardlib.evaluation.routing.check_collapse`.
    """
    scores = np.asarray(scores, dtype=np.float64)
    if scores.ndim != 1 or len(scores) == 0 or not np.isfinite(scores).all():
        raise ValueError(f"router scores have shape {scores.shape} or hold NaN; expected [N] finite numbers, N > 0")
    if not 0 <= budget <= 1:
        raise ValueError(f"deep budget is {budget}; expected 0 to 1")
    values, counts = np.unique(scores, return_counts=True)
    deep = np.concatenate([[0], np.cumsum(counts[::-1])])  # rows sent deep with the k highest distinct scores above
    taken = int(np.argmin(np.abs(deep / len(scores) - budget)))  # argmin takes the first: the smaller share
    if taken == len(values):
        return float(values[0])
    return above(values[::-1][taken], scores, ceiling=np.inf)


def share_at(scores: np.ndarray, threshold: float) -> float:
    """Share of ``scores`` [N] at or above ``threshold``."""
    return float(np.mean(np.asarray(scores, dtype=np.float64) >= threshold))
