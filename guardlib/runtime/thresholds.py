"""The score from which to flag, given how many benign texts may be. Torch-free: the released guard runs this file."""

from __future__ import annotations

import numpy as np


def threshold_at_fpr(scores: np.ndarray, labels: np.ndarray, target: float) -> float:
    """The lowest threshold at which at most ``target`` of the benign rows are flagged (``score >= threshold``).

    Args:
        scores: [N] in [0, 1].
        labels: [N], 0 benign, anything else an attack.
        target: highest allowed false-positive rate, 0 ≤ target ≤ 1.

    Ties: benign rows that share a score are flagged all or none; where all would be too many, none is, so the rate on
    these rows never exceeds the target. Every number between two neighbouring scores decides alike; the middle of that
    gap is returned, so that the rounding of a quantized model flips as little as possible. If even a score of 1 must
    not be flagged, the threshold lies just above 1 and flags nothing.
    """
    scores, labels = np.asarray(scores, dtype=np.float64), np.asarray(labels)
    if scores.ndim != 1 or scores.shape != labels.shape:
        raise ValueError(f"scores have shape {scores.shape} and labels {labels.shape}; expected [N] and [N]")
    if not 0 <= target <= 1:
        raise ValueError(f"target false-positive rate is {target}; expected 0 to 1")
    if not ((scores >= 0) & (scores <= 1)).all():
        raise ValueError("scores hold NaN or numbers outside 0 to 1; expected 1 - P(benign)")
    benign = np.sort(scores[labels == 0])[::-1]
    if len(benign) == 0:
        raise ValueError("no benign row (label 0) to hold the false-positive rate on; add benign rows to validation")
    allowed = int(np.floor(target * len(benign) + 1e-9))
    if allowed >= len(benign):
        return 0.0
    return above(benign[allowed], scores)


def above(value: float, scores: np.ndarray, ceiling: float = 1.0) -> float:
    """A number above ``value`` and not above the next higher score, in the middle of the gap."""
    higher = scores[scores > value]
    next_up = higher.min() if len(higher) else min(ceiling, value + 1.0)
    return float(max(value + (next_up - value) / 2, np.nextafter(value, np.inf)))
