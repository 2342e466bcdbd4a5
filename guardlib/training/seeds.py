"""The same training from several seeds: how much of a figure is luck."""

from __future__ import annotations

import dataclasses
import json
import os
import warnings
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from guardlib.config import ConfigError, Profile
from guardlib.data.records import frame_digest
from guardlib.evaluation.metrics import CONFIDENCE, headline, mean_interval
from guardlib.evaluation.routing import RouterCollapse
from guardlib.fingerprint import code_digests, digest_of
from guardlib.model.build import build_guardrail
from guardlib.report.provenance import discard_checkpoints
from guardlib.training.operating_points import finish_training, score_split
from guardlib.training.trainer import run_identity, train

_SCORES, _IDENTITY = "test_scores.parquet", "identity.json"


def train_other_seeds(frames: Mapping[str, pd.DataFrame], profile: Profile, folder: Path) -> dict[int, pd.DataFrame]:
    """Train, calibrate and score once for each seed of ``training.seeds`` but the first, which is the run's own.

    Each has a folder ``seed_N`` in ``folder``; one that was finished with these settings and rows is not trained again
    (unless ``training.resume`` is off). A seed whose router collapses is a warning, and missing from the result.

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
        again = dataclasses.replace(profile, seed=seed)
        try:
            found[seed] = _train(frames, again, folder / f"seed_{seed}")
        except RouterCollapse as error:
            warnings.warn(f"seed {seed} has no figures: {error}", stacklevel=2)
    return found


def _train(frames: Mapping[str, pd.DataFrame], profile: Profile, folder: Path) -> pd.DataFrame:
    identity = _identity(frames, profile)
    if profile.training.resume and _finished(folder, identity):
        return pd.read_parquet(folder / _SCORES)
    (folder / _IDENTITY).unlink(missing_ok=True)
    guardrail = build_guardrail(profile, frames["train"], folder)
    train(guardrail.model, guardrail.reader, frames["train"], frames["validation"], profile, folder)
    guardrail, _ = finish_training(guardrail, frames["train"], frames["validation"], profile, folder)
    rows = score_split(guardrail, frames["test"], "test", profile)
    rows.to_parquet(folder / _SCORES)
    temporary = folder / f".{_IDENTITY}.part"
    temporary.write_text(json.dumps(identity), encoding="utf-8")
    os.replace(temporary, folder / _IDENTITY)  # after them and at once: it says that the rows beside it are whole
    discard_checkpoints(folder)
    return rows


def _finished(folder: Path, identity: dict[str, str]) -> bool:
    try:
        return json.loads((folder / _IDENTITY).read_text(encoding="utf-8")) == identity
    except (OSError, ValueError):
        return False


def _identity(frames: Mapping[str, pd.DataFrame], profile: Profile) -> dict[str, str]:
    """What must be the same for rows on disk to be these: settings, seed, the rows of each split, and the code."""
    identity = run_identity(profile, frames["train"])
    identity["code of evaluation"] = digest_of(code_digests({"guardlib.training.seeds"}))
    identity["evaluation"] = json.dumps(profile.to_dict()["evaluation"], sort_keys=True)
    for split in ("validation", "test"):
        identity[split] = frame_digest(frames[split])
    return identity


def spread(rows: Mapping[int, pd.DataFrame], confidence: float = CONFIDENCE) -> pd.DataFrame:
    """Figures of the test split by seed; under two or more, their mean with its t interval, cut to 0..1.

    Args:
        rows: score rows by seed.

    Returns:
        ``seed`` ("mean", "low" and "high" at the end, but not of one seed: it says nothing of others), ``n, accuracy,
        tpr, fpr, deep_share``.
    """
    columns = ["n", "accuracy", "tpr", "fpr"]
    table = pd.DataFrame({seed: headline(part).iloc[0][columns] for seed, part in rows.items()}).T.astype(float)
    table["deep_share"] = [float((part["route"] == "deep").mean()) for part in rows.values()]
    if len(table) < 2:
        return table.rename_axis("seed").reset_index()
    summary = {name: mean_interval(table[name].to_numpy(), confidence) for name in table}
    summary = pd.DataFrame(summary, index=["mean", "low", "high"]).clip(0, 1)
    summary["n"] = table["n"].iloc[0]
    return pd.concat([table, summary]).rename_axis("seed").reset_index()
