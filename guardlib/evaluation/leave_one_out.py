"""What a system knows of a source that it never saw: fitted once more without each source in turn."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from guardlib.config import Profile
from guardlib.data.records import rng_for
from guardlib.evaluation.baselines import Predict, fit_baseline
from guardlib.evaluation.metrics import effective_sizes, wilson
from guardlib.runtime.thresholds import threshold_at_fpr

COLUMNS = ("source", "system", "metric", "n", "rate", "low", "high", "n_seen", "rate_seen", "low_seen", "high_seen")
_MOST_ROWS = 400  # of a source that are scored
_FEWEST_ROWS = 20


def leave_one_source_out(
    systems: Sequence[str],
    train: pd.DataFrame,
    validation: pd.DataFrame,
    test: pd.DataFrame,
    profile: Profile,
    sources: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Detection (sources of attacks) or false positives (benign ones) on a source that was left out of fitting.

    Left out is every row of the source and every row in a cluster with one: near copies, and what generators made of
    it, as far as they name it: a row made from two texts (a goal in another source's jailbreak) has the cluster of one
    of them. Beside it, the rate on the source's test rows when it was in training. Thresholds flag
    ``evaluation.target_fpr`` of the benign validation rows that remain.

    Args:
        systems: registered baselines, or "guard", which is trained anew each time.
        train, validation, test: the three splits of stage 01.
        sources: which to leave out; None: all with at least 20 test rows.

    Returns:
        COLUMNS; ``metric`` is "tpr" or "fpr", empty where ``systems`` is. A fit that fails is a warning, and missing.

    Raises:
        ValueError: a source without rows, or a system that does not exist.
    """
    everything = pd.concat([train, validation, test], ignore_index=True)
    sizes = test.groupby("source").size()
    sources = sizes.index[sizes >= _FEWEST_ROWS].tolist() if sources is None else list(sources)
    if unknown := sorted(set(sources) - set(everything["source"])):
        raise ValueError(f"no rows of source {unknown[0]!r}; there are {', '.join(sorted(set(everything['source'])))}")
    rows = []
    for system in systems:
        seen, limit = _fitted(system, train, validation, profile)
        for source in tqdm(sources, desc=f"{system}, leave one out", unit="source", leave=False):
            own = everything[everything["source"] == source]
            groups = set(own["group"])
            rest = [part[~part["group"].isin(groups) & (part["source"] != source)] for part in (train, validation)]
            try:
                unseen, own_limit = _fitted(system, *rest, profile)
            except Exception as error:  # whatever a fit on fewer rows does must not cost the others
                warnings.warn(f"{system} without {source} has no figures: {error}", stacklevel=2)
                continue
            some = own.iloc[np.sort(rng_for(profile.seed, source).permutation(len(own))[:_MOST_ROWS])]
            apart = _rates(some, unseen, own_limit)
            inside = _rates(test[test["source"] == source], seen, limit)
            for metric in apart:
                seen_part = {f"{name}_seen": value for name, value in inside.get(metric, {}).items()}
                rows.append({"source": source, "system": system, "metric": metric, **apart[metric], **seen_part})
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _fitted(system: str, train: pd.DataFrame, validation: pd.DataFrame, profile: Profile) -> tuple[Predict, float]:
    """A system fitted on ``train`` and its threshold at the target false-positive rate."""
    fit = fit_guard if system == "guard" else lambda *parts: fit_baseline(system, *parts)
    predict = fit(train, validation, profile)
    scores = np.clip(1 - predict(validation["text"].tolist())[:, 0], 0, 1)
    return predict, threshold_at_fpr(scores, validation["label"].to_numpy(), profile.evaluation.target_fpr)


def _rates(rows: pd.DataFrame, predict: Predict, limit: float) -> dict[str, dict[str, float]]:
    """``{metric: {n, rate, low, high}}`` of rows with their attack and benign parts apart."""
    result = {}
    for metric, part in (("tpr", rows[rows["label"] > 0]), ("fpr", rows[rows["label"] == 0])):
        if len(part):
            hit = 1 - predict(part["text"].tolist())[:, 0] >= limit
            # Near copies, and what was made of one text, count for what they are worth together.
            judged = pd.DataFrame({"metric": metric, "example_id": part["group"].astype(str), "hit": hit})
            size = effective_sizes(judged, ["metric"], "hit").iloc[0]
            low, high = wilson(hit.mean() * size, size)
            result[metric] = {"n": len(part), "rate": hit.mean(), "low": float(low), "high": float(high)}
    return result


def fit_guard(train: pd.DataFrame, validation: pd.DataFrame, profile: Profile) -> Predict:
    """The guard itself, built, trained and calibrated as stage 03 does it, as a ``predict``."""
    from guardlib.model.build import build_guardrail
    from guardlib.model.inference import decide, score_windows
    from guardlib.training.operating_points import finish_training
    from guardlib.training.trainer import train as train_model

    with tempfile.TemporaryDirectory(prefix="guardlib-") as name:
        folder = Path(name)
        guardrail = build_guardrail(profile, train, folder)
        train_model(guardrail.model, guardrail.reader, train, validation, profile, folder, progress_bar=False)
        guardrail, _ = finish_training(guardrail, train, validation, profile, folder)

    def predict(texts: Sequence[str]) -> np.ndarray:
        scores = score_windows(guardrail.model, guardrail.reader, list(texts), profile.evaluation.tokens_per_batch)
        return decide(scores, guardrail.calibration).probabilities

    return predict
