"""From the outputs of both branches on every window to one decision per text.

The torch model and the ONNX guard share this file, so that what was measured is what is released. Torch-free.

Legend: N texts, W windows, K classes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from guardlib.labels import Label
from guardlib.text.reading import Window, worst_window

#: A text is flagged where 1 − P(benign) is at least this, unless another threshold is asked for.
DEFAULT_THRESHOLD = 0.5
#: Windows from which on a longer text is discounted no further: who hides an attack chooses how much to put around it.
MOST_WINDOWS = 32


@dataclass(frozen=True, slots=True)
class WindowScores:
    """Raw outputs per window: logits [W, K] of each branch and routing logits [W]; ``texts`` N, ``seconds`` in all.

    Equal windows were read once, so ``seconds`` tells little of the time of one text (see evaluation.latency).
    """

    windows: list[Window]
    fast_logits: np.ndarray
    deep_logits: np.ndarray
    router: np.ndarray
    texts: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """What validation settled: a temperature per branch, the routing threshold (logit), the decision thresholds."""

    fast_temperature: float = 1.0
    deep_temperature: float = 1.0
    router_threshold: float = 0.0
    threshold: float = DEFAULT_THRESHOLD
    threshold_at_fpr: float = DEFAULT_THRESHOLD  # flags evaluation.target_fpr of benign validation texts
    thresholds: dict[str, float] = field(default_factory=dict)  # the same at other rates: "0.001" → threshold
    length_discount: float = 0.0  # odds of an attack in one of n windows are divided by n to this power, n at most 32


@dataclass(frozen=True, slots=True)
class TextScores:
    """Per text: probabilities [N, K], ``route`` ('fast' or 'deep') [N], ``window`` [N] (index of the deciding one)."""

    probabilities: np.ndarray
    route: np.ndarray
    window: np.ndarray


def softmax(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Probabilities over the last axis of ``logits / temperature``."""
    shifted = logits / temperature
    shifted = np.exp(shifted - shifted.max(-1, keepdims=True))
    return shifted / shifted.sum(-1, keepdims=True)


def discount_by_length(probabilities: np.ndarray, windows: Sequence[Window], discount: float) -> np.ndarray:
    """Probabilities [W, K] with the odds of an attack divided by n^discount, n the windows of the text's same view.

    n is at most :data:`MOST_WINDOWS`: benign text without end around an attack must not hide it.

    The worst of n benign windows looks worse the more there are: where their attack logits have an exponential tail of
    scale s, the highest of them grows as s log n (Coles 2001, An Introduction to Statistical Modeling of Extreme
    Values, section 3.1). A discount of s would flag long texts by mistake as often as short ones, and miss what one of
    their windows hides; validation settles how far to go.
    """
    if not discount:
        return probabilities
    counts = Counter(window.reading for window in windows)
    if len(counts) == len(windows):  # one each
        return probabilities
    n = [min(counts[window.reading], MOST_WINDOWS) for window in windows]
    weighted = probabilities * (np.array(n, dtype=probabilities.dtype) ** -discount)[:, None]
    weighted[:, Label.BENIGN] = probabilities[:, Label.BENIGN]
    return weighted / weighted.sum(-1, keepdims=True)


def branch_probabilities(
    fast_logits: np.ndarray, deep_logits: np.ndarray, calibration: Calibration
) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities [W, K] of a window that takes the fast exit, and of one that goes deep.

    What goes deep has passed the fast head on its way, so both are heard: their calibrated probabilities' geometric
    mean, normalised (a logarithmic opinion pool; Genest and Zidek, "Combining Probability Distributions", Statistical
    Science 1986, section 3). It costs nothing, and the two do not err on all the same texts.
    """
    fast, deep = fast_logits / calibration.fast_temperature, deep_logits / calibration.deep_temperature
    return softmax(fast), softmax((fast + deep) / 2)


def decide(scores: WindowScores, calibration: Calibration, route: str = "router") -> TextScores:
    """Per-text probabilities from window outputs; ``route`` is ``router``, ``fast`` (never deep) or ``deep`` (always).

    Each window speaks through :func:`branch_probabilities`; the worst one decides, after :func:`discount_by_length`.

    Raises:
        ValueError: another ``route``.
    """
    if route not in ("router", "fast", "deep"):
        raise ValueError(f"route is {route!r}; expected router, fast or deep")
    goes_deep = {
        "router": scores.router >= calibration.router_threshold,
        "fast": np.zeros(len(scores.windows), bool),
        "deep": np.ones(len(scores.windows), bool),
    }[route]
    fast, deep = branch_probabilities(scores.fast_logits, scores.deep_logits, calibration)
    probabilities = np.where(goes_deep[:, None], deep, fast)
    probabilities = discount_by_length(probabilities, scores.windows, calibration.length_discount)
    chosen = worst_window(scores.windows, 1 - probabilities[:, Label.BENIGN], scores.texts)
    return TextScores(probabilities[chosen], np.where(goes_deep, "deep", "fast")[chosen], chosen)
