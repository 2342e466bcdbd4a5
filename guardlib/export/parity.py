"""How far each precision is from the torch model, window by window and verdict by verdict.

Legend: W windows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from guardlib.export.onnx import Graphs
from guardlib.labels import Label
from guardlib.model.build import Guardrail
from guardlib.model.dual_branch import DualBranchModel
from guardlib.model.inference import Calibration, WindowScores, decide, score_windows, softmax
from guardlib.runtime.session import GuardModel, run_windows
from guardlib.text.reading import TOKENS_PER_BATCH

#: Experts whose weights differ by less: arithmetic in another order may choose the other.
TIE = 1e-6


def compare_precisions(
    guardrail: Guardrail,
    graphs: dict[str, Graphs],
    texts: Sequence[str],
    threads: int | None = None,
    tokens_per_batch: int = TOKENS_PER_BATCH,
) -> pd.DataFrame:
    """How far each precision is from torch on ``texts``: both branches on every window, and the routed verdicts.

    Returns:
        A row per pair (``reference`` → ``candidate``): ``texts, windows, max_dp_fast, max_dp_deep`` (largest difference
        of a probability), ``ties`` (windows with a token that two experts weigh alike: either expert is torch's answer
        there, see :func:`other_choice`), ``mean_dp`` (of the routed attack score), ``same_label, same_route,
        same_verdict`` (shares of texts; label: likeliest class, verdict: flagged or not).

    Raises:
        ValueError: no texts.
    """
    texts = list(texts)
    if not texts:
        raise ValueError("compare_precisions got no texts; expected at least one")
    model, reader = guardrail.model, guardrail.reader
    scores = {"torch": score_windows(model, reader, texts, tokens_per_batch)}
    with other_choice(model):
        other = score_windows(model, reader, texts, tokens_per_batch).deep_logits
    for precision, files in graphs.items():
        onnx = GuardModel(files.front, files.deep, threads)
        scores[precision] = run_windows(onnx, reader, texts, tokens_per_batch=tokens_per_batch)
    rows = []
    for candidate in graphs:
        compared = _compare(scores["torch"], scores[candidate], guardrail.calibration, other)
        rows.append({"reference": "torch", "candidate": candidate, **compared})
    if "float32" in graphs:
        for candidate in (precision for precision in graphs if precision != "float32"):
            compared = _compare(scores["float32"], scores[candidate], guardrail.calibration)
            rows.append({"reference": "float32", "candidate": candidate, **compared})
    return pd.DataFrame(rows)


@contextmanager
def other_choice(model: DualBranchModel) -> Iterator[None]:
    """Where a token's two likeliest experts are within :data:`TIE`, the second takes it, as the last bit may decide."""
    mixtures = [layer.experts for layer in model.deep.layers if len(layer.experts.experts) > 1]
    for experts in mixtures:
        experts.gate_probabilities = partial(_second_where_tied, experts.gate_probabilities)
    try:
        yield
    finally:
        for experts in mixtures:
            del experts.gate_probabilities


def _second_where_tied(gate_probabilities: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    p = gate_probabilities(x)
    best = p.topk(2, dim=-1)
    tied = best.values[..., :1] - best.values[..., 1:] < TIE
    return torch.where(tied, p.scatter(-1, best.indices[..., :1], 0.0), p)


def _compare(
    a: WindowScores, b: WindowScores, calibration: Calibration, other: np.ndarray | None = None
) -> dict[str, float]:
    """``other``: deep logits [W, 4] that are as right as those of ``a``."""
    texts_a, texts_b = decide(a, calibration), decide(b, calibration)
    attack_a, attack_b = (1 - t.probabilities[:, Label.BENIGN] for t in (texts_a, texts_b))
    other = a.deep_logits if other is None else other
    deep = [_differences(x, b.deep_logits, calibration.deep_temperature) for x in (a.deep_logits, other)]
    return {
        "texts": a.texts,
        "windows": len(a.windows),
        "max_dp_fast": float(_differences(a.fast_logits, b.fast_logits, calibration.fast_temperature).max(initial=0)),
        "max_dp_deep": float(np.minimum(*deep).max(initial=0)),
        "ties": int((other != a.deep_logits).any(-1).sum()),
        "mean_dp": float(np.abs(attack_a - attack_b).mean()),
        "same_label": float((texts_a.probabilities.argmax(-1) == texts_b.probabilities.argmax(-1)).mean()),
        "same_route": float((texts_a.route == texts_b.route).mean()),
        "same_verdict": float(((attack_a >= calibration.threshold) == (attack_b >= calibration.threshold)).mean()),
    }


def _differences(a: np.ndarray, b: np.ndarray, temperature: float) -> np.ndarray:
    """Largest difference of a probability in each window, [W], of logits [W, 4]."""
    return np.abs(softmax(a, temperature) - softmax(b, temperature)).max(-1, initial=0)
