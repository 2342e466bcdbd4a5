"""Benchmark rows × systems → score rows.

The guard and its two branches are three readings of one pass over the texts. Baselines are fitted on the same training
rows and scored on the same benchmark rows. Every system's thresholds come from the same validation rows.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import pandas as pd
from tqdm.auto import tqdm

from guardlib.config import Profile
from guardlib.evaluation.baselines import Predict, fit_baseline
from guardlib.evaluation.calibration import threshold_at_fpr
from guardlib.evaluation.scores import score_rows, split_as_benchmark
from guardlib.model.build import Guardrail
from guardlib.model.inference import decide, score_windows

#: System name → how texts are routed.
BRANCHES = {"guard": "router", "fast": "fast", "deep": "deep"}


def score_guardrail(guardrail: Guardrail, benchmarks: pd.DataFrame, profile: Profile) -> pd.DataFrame:
    """Score rows of the routed guard and of each branch alone; ``seconds``: batch time per text, both branches run."""
    scores = score_windows(
        guardrail.model,
        guardrail.reader,
        benchmarks["text"].tolist(),
        profile.evaluation.tokens_per_batch,
        progress="benchmarks",
    )
    rows = []
    for system, route in BRANCHES.items():
        texts = decide(scores, guardrail.calibration, route)
        seconds = scores.seconds / max(len(benchmarks), 1)
        rows.append(score_rows(benchmarks, system, texts.probabilities, route=texts.route, seconds=seconds))
    return pd.concat(rows, ignore_index=True)


def fit_baselines(names: Sequence[str], train: pd.DataFrame, profile: Profile) -> dict[str, Predict]:
    """Each named baseline fitted on ``train``."""
    return {name: fit_baseline(name, train, profile.seed) for name in tqdm(names, desc="baselines", unit="system")}


def score_baselines(baselines: dict[str, Predict], benchmarks: pd.DataFrame) -> pd.DataFrame:
    """Score rows of fitted baselines."""
    rows = []
    for name, predict in baselines.items():
        started = time.perf_counter()
        probabilities = predict(benchmarks["text"].tolist())
        seconds = (time.perf_counter() - started) / max(len(benchmarks), 1)
        rows.append(score_rows(benchmarks, name, probabilities, seconds=seconds))
    return pd.concat(rows, ignore_index=True)


def validation_rows(guard_rows: pd.DataFrame, baselines: dict[str, Predict], validation: pd.DataFrame) -> pd.DataFrame:
    """Scores of every system on the validation split, columns system, score, label.

    The guard's and its branches' are those that training wrote (validation_scores.parquet); only baselines are run.
    """
    columns = {"guard": "p_0", "fast": "p_fast_0", "deep": "p_deep_0"}
    parts = [
        pd.DataFrame({"system": system, "score": 1 - guard_rows[column], "label": guard_rows["label"]})
        for system, column in columns.items()
    ]
    parts.append(score_baselines(baselines, split_as_benchmark(validation, "validation"))[["system", "score", "label"]])
    return pd.concat(parts, ignore_index=True)


def thresholds_at_fpr(validation_rows: pd.DataFrame, target_fpr: float) -> dict[str, float]:
    """Per system the threshold that flags at most ``target_fpr`` of the benign validation rows."""
    return {
        system: threshold_at_fpr(part["score"].clip(0, 1).to_numpy(), part["label"].to_numpy(), target_fpr)
        for system, part in validation_rows.groupby("system", sort=False)
    }
