"""How far each precision is from the torch model, window by window and verdict by verdict.

Legend: W windows, B batch, L tokens, D width.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from guardlib.export.onnx import Graphs
from guardlib.labels import Label
from guardlib.model.build import Guardrail
from guardlib.model.deep_branch import MixtureOfExperts
from guardlib.model.inference import Calibration, WindowScores, decide, score_windows, softmax, to_tensors
from guardlib.runtime.session import GuardModel, run_windows
from guardlib.text.reading import TOKENS_PER_BATCH, batches_by_length, distinct_windows

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
        of a probability), ``ties, max_dp_ties`` (windows with a token that two experts weigh alike, within
        :data:`TIE`: there the last bit chooses the expert, so they are no part of max_dp_deep), ``mean_dp`` (of the
        routed attack score), ``same_label, same_route, same_verdict`` (shares of texts; label: likeliest class,
        verdict: flagged or not).

    Raises:
        ValueError: no texts.
    """
    texts = list(texts)
    if not texts:
        raise ValueError("compare_precisions got no texts; expected at least one")
    scores = {"torch": score_windows(guardrail.model, guardrail.reader, texts, tokens_per_batch)}
    for precision, files in graphs.items():
        model = GuardModel(files.front, files.deep, threads)
        scores[precision] = run_windows(model, guardrail.reader, texts, tokens_per_batch=tokens_per_batch)
    tied = tied_windows(guardrail, texts, tokens_per_batch)
    pairs = [("torch", precision) for precision in graphs]
    if "float32" in graphs:
        pairs += [("float32", precision) for precision in graphs if precision != "float32"]
    rows = [
        {"reference": a, "candidate": b, **_compare(scores[a], scores[b], tied, guardrail.calibration)}
        for a, b in pairs
    ]
    return pd.DataFrame(rows)


def tied_windows(guardrail: Guardrail, texts: Sequence[str], tokens_per_batch: int = TOKENS_PER_BATCH) -> np.ndarray:
    """Whether the two experts that a token of the window weighs most differ by less than :data:`TIE`: bool [W]."""
    model, reader = guardrail.model.eval(), guardrail.reader
    read, places = distinct_windows(reader.windows(texts))
    gaps, found = np.full(len(read), np.inf), []

    def note(experts: MixtureOfExperts, inputs: tuple[Tensor, Tensor], _) -> None:
        x_BLD, mask_BL = inputs
        best = experts.gate_probabilities(x_BLD).topk(min(2, len(experts.experts)), dim=-1).values
        gap_BL = best[..., 0] - best[..., 1:].sum(-1)
        found.append(gap_BL.masked_fill(mask_BL == 0, np.inf).amin(1))

    hooks = [layer.experts.register_forward_hook(note) for layer in model.deep.layers]
    try:
        with torch.inference_mode():
            for rows in batches_by_length([len(window) for window in read], tokens_per_batch):
                found.clear()
                model(*to_tensors(reader.collate([read[row] for row in rows])))
                gaps[rows] = torch.stack(found).amin(0).numpy()
    finally:
        for hook in hooks:
            hook.remove()
    return (gaps < TIE)[places]


def _compare(a: WindowScores, b: WindowScores, tied: np.ndarray, calibration: Calibration) -> dict[str, float]:
    texts_a, texts_b = decide(a, calibration), decide(b, calibration)
    attack_a, attack_b = (1 - t.probabilities[:, Label.BENIGN] for t in (texts_a, texts_b))
    difference = lambda x, y, t: float(np.abs(softmax(x, t) - softmax(y, t)).max(initial=0))  # noqa: E731
    deep = [(a.deep_logits[kind], b.deep_logits[kind], calibration.deep_temperature) for kind in (~tied, tied)]
    return {
        "texts": a.texts,
        "windows": len(a.windows),
        "max_dp_fast": difference(a.fast_logits, b.fast_logits, calibration.fast_temperature),
        "max_dp_deep": difference(*deep[0]),
        "ties": int(tied.sum()),
        "max_dp_ties": difference(*deep[1]),
        "mean_dp": float(np.abs(attack_a - attack_b).mean()),
        "same_label": float((texts_a.probabilities.argmax(-1) == texts_b.probabilities.argmax(-1)).mean()),
        "same_route": float((texts_a.route == texts_b.route).mean()),
        "same_verdict": float(((attack_a >= calibration.threshold) == (attack_b >= calibration.threshold)).mean()),
    }
