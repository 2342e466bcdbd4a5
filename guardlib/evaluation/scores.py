"""Score rows: one row per example and system, the only thing metrics, tables and figures are made from."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd

from guardlib.evaluation.metrics import CLUSTER_MARK
from guardlib.labels import BENCHMARK_COLUMNS, NUM_CLASSES, SCORE_COLUMNS
from guardlib.paths import run_again
from guardlib.runtime.decision import DEFAULT_THRESHOLD

#: Two rows of the same system may not share these.
KEY = ("benchmark", "system", "example_id")

#: ``P(class)`` may miss 1 by this much in sum: what float16 and INT8 arithmetic cost.
SUM_TOLERANCE = 1e-2


class ScoreError(ValueError):
    """Scores that cannot be used: the wrong length, NaN, not probabilities, or twice the same example."""


def decide(probabilities: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """``(score, predicted)`` of class probabilities [N, K].

    ``score`` [N] float64 is 1 − P(benign). A text is flagged where ``score >= threshold``; ``predicted`` [N] int64 is 0
    where it is not, else the most likely *attack* class (even if benign is likelier still), so ``predicted > 0`` and
    "flagged" are the same thing. With K = 2 the only attack class is 1: an attack of unstated kind.
    """
    scores = np.clip(1.0 - probabilities[:, 0], 0.0, 1.0)
    attack = 1 + np.argmax(probabilities[:, 1:], axis=1)
    return scores, np.where(scores >= threshold, attack, 0).astype(np.int64)


def score_rows(
    benchmarks: pd.DataFrame,
    system: str,
    probabilities: np.ndarray,
    threshold: float = DEFAULT_THRESHOLD,
    route: str | np.ndarray = "",
    seconds: float | np.ndarray = float("nan"),
) -> pd.DataFrame:
    """Score rows (SCORE_COLUMNS) of one system over benchmark rows, in their order.

    Args:
        benchmarks: rows with BENCHMARK_COLUMNS.
        system: name of what was scored.
        probabilities: [N, 4], or [N, 2] for a system that only tells attack from benign; column 0 is benign.
        threshold: flagged where 1 − P(benign) ≥ threshold.
        route: "fast" / "deep" per row, or one value for all; "" for a system without routes.
        seconds: time per row or one value for all; NaN where it was not measured.

    Raises:
        ScoreError: names the system and what is wrong with its probabilities or with the rows.
    """
    missing = [column for column in BENCHMARK_COLUMNS if column not in benchmarks.columns]
    if missing:
        raise ScoreError(f"benchmark rows lack column(s) {', '.join(missing)}; expected {', '.join(BENCHMARK_COLUMNS)}")
    probabilities = check_probabilities(probabilities, len(benchmarks), system)
    score, predicted = decide(probabilities, threshold)
    rows = benchmarks[["benchmark", "example_id", "label", "family", "variant"]].reset_index(drop=True)
    rows["system"] = system
    rows["score"], rows["predicted"] = score, predicted
    rows["route"] = _per_row(route, len(rows), system, "route")
    rows["seconds"] = np.asarray(_per_row(seconds, len(rows), system, "seconds"), dtype=np.float64)
    return check_rows(rows[list(SCORE_COLUMNS)])


def split_as_benchmark(frame: pd.DataFrame, split: str) -> pd.DataFrame:
    """Records of a split with the columns of benchmark rows: its name, ids with the group, the source as variant."""
    ids = [f"{split}/{number}{CLUSTER_MARK}{group}" for number, group in enumerate(frame["group"])]
    return frame.assign(benchmark=split, example_id=ids, variant=frame["source"])


def check_probabilities(probabilities: np.ndarray, n: int, system: str) -> np.ndarray:
    """``probabilities`` as float64 [n, 2 or 4]; ScoreError if they are not n rows of probabilities."""
    probabilities = np.asarray(probabilities, dtype=np.float64)
    if probabilities.ndim != 2 or probabilities.shape[1] not in (2, NUM_CLASSES):
        raise ScoreError(
            f"system {system!r} gave an array of shape {probabilities.shape}; expected [{n}, 4] or [{n}, 2]"
        )
    if len(probabilities) != n:
        raise ScoreError(f"system {system!r} gave {len(probabilities)} row(s) of probabilities for {n} example(s)")
    bad = ~np.isfinite(probabilities).all(axis=1)
    if bad.any():
        raise ScoreError(
            f"system {system!r} gave NaN or infinity for {bad.sum()} of {n} examples, first at row {bad.argmax()}"
        )
    off = (probabilities < -SUM_TOLERANCE).any(axis=1) | (np.abs(probabilities.sum(axis=1) - 1) > SUM_TOLERANCE)
    if off.any():
        row = int(off.argmax())
        raise ScoreError(
            f"system {system!r} gave {probabilities[row].tolist()} at row {row}; expected probabilities summing to 1"
        )
    return probabilities


def check_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows unchanged if they are score rows; ScoreError names the first thing that is wrong otherwise."""
    missing = [column for column in SCORE_COLUMNS if column not in rows.columns]
    if missing:
        raise ScoreError(f"score rows lack column(s) {', '.join(missing)}; run notebook 05 again")
    twice = rows.duplicated(list(KEY))
    if twice.any():
        first = rows.loc[twice, list(KEY)].iloc[0].to_dict()
        raise ScoreError(
            f"{int(twice.sum())} score row(s) appear twice, first {first}; expected one row per example and system"
        )
    for column in ("label", "predicted"):
        wrong = ~rows[column].isin(range(NUM_CLASSES))
        if wrong.any():
            raise ScoreError(
                f"{column} {rows.loc[wrong, column].iloc[0]} is not a class; expected 0 to {NUM_CLASSES - 1}"
            )
    outside = ~rows["score"].between(0.0, 1.0)  # true for NaN as well
    if outside.any():
        first = rows[outside].iloc[0]
        raise ScoreError(
            f"score of {first.example_id!r} by {first.system!r} is {first.score}; expected a number from 0 to 1"
        )
    return rows


def write_scores(rows: pd.DataFrame, path: Path) -> Path:
    """Write checked rows as parquet; the file appears whole or not at all."""
    check_rows(rows)
    partial = path.with_name(path.name + ".partial")
    rows.to_parquet(partial, index=False)
    os.replace(partial, path)
    return path


def read_scores(path: Path) -> pd.DataFrame:
    """Rows written by :func:`write_scores`, checked again; ScoreError if the file is absent or malformed."""
    if not path.is_file():
        raise ScoreError(f"score file {path} does not exist; {run_again(path, '05')}")
    try:
        rows = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise ScoreError(f"score file {path} cannot be read ({error}); {run_again(path, '05')} --force") from error
    return check_rows(rows)


def _per_row(value, n: int, system: str, name: str):
    """One value per row; ScoreError if a sequence of another length was given."""
    if isinstance(value, str) or np.ndim(value) == 0:
        return [value] * n
    if len(value) != n:
        raise ScoreError(f"system {system!r} gave {len(value)} value(s) of {name} for {n} example(s)")
    return list(value)
