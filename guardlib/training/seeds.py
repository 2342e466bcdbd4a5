"""The same training from several seeds: how much of a figure is luck."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from scipy import stats

from guardlib.config import ConfigError, Profile
from guardlib.evaluation.metrics import CONFIDENCE, headline
from guardlib.model.build import build_guardrail
from guardlib.training.operating_points import finish_training, score_split
from guardlib.training.trainer import train


def train_other_seeds(frames: Mapping[str, pd.DataFrame], profile: Profile, folder: Path) -> dict[int, pd.DataFrame]:
    """Train, calibrate and score once for each seed of ``training.seeds`` but the first, which is the run's own.

    Each has a folder ``seed_N`` in ``folder``; one whose rows are there is not trained again.

    Args:
        frames: the splits ``train``, ``validation`` and ``test``.

    Returns:
        Score rows of the test split by seed; empty where ``training.seeds`` is 1.

    Raises:
        ConfigError: fewer than one seed. And what :func:`.trainer.train` and ``finish_training`` raise.
    """
    if profile.training.seeds < 1:
        raise ConfigError(f"training.seeds is {profile.training.seeds}; expected at least 1")
    found = {}
    for seed in range(profile.seed + 1, profile.seed + profile.training.seeds):
        own, scores = folder / f"seed_{seed}", folder / f"seed_{seed}" / "test_scores.parquet"
        if not scores.is_file():
            again = dataclasses.replace(profile, seed=seed)
            guardrail = build_guardrail(again, frames["train"]["text"], own)
            train(guardrail.model, guardrail.reader, frames["train"], frames["validation"], again, own)
            guardrail, _ = finish_training(guardrail, frames["validation"], again, own)
            score_split(guardrail, frames["test"], "test", again).to_parquet(scores)
        found[seed] = pd.read_parquet(scores)
    return found


def spread(rows: Mapping[int, pd.DataFrame], confidence: float = CONFIDENCE) -> pd.DataFrame:
    """Figures of the test split by seed, then their mean with its t interval (NaN for one seed).

    Args:
        rows: score rows by seed.

    Returns:
        ``seed`` ("mean", "low" and "high" at the end), ``accuracy, tpr, fpr, deep_share``.
    """
    table = pd.DataFrame(
        {seed: headline(part).iloc[0][["accuracy", "tpr", "fpr"]] for seed, part in rows.items()}
    ).T.astype(float)
    table["deep_share"] = [float((part["route"] == "deep").mean()) for part in rows.values()]
    mean, error = table.mean(), stats.sem(table, axis=0) if len(table) > 1 else float("nan")
    half = stats.t.ppf((1 + confidence) / 2, max(len(table) - 1, 1)) * error
    summary = pd.DataFrame({"mean": mean, "low": mean - half, "high": mean + half}).T
    return pd.concat([table, summary]).rename_axis("seed").reset_index()
