"""What the router is worth at its budget, against its rivals on the same rows."""

from __future__ import annotations

import numpy as np
import pandas as pd

from guardlib.evaluation.metrics import wilson
from guardlib.evaluation.routing import routing_curve
from guardlib.labels import NUM_CLASSES


def at_budget(frame: pd.DataFrame, budget: float) -> pd.DataFrame:
    """Accuracy (four classes) of every policy with ``budget`` of the rows sent deep, and of both branches alone.

    Args:
        frame: rows with label, router, p_fast_*, p_deep_* (validation_scores.parquet, test_scores.parquet).
        budget: deep share, in (0, 1).

    Returns:
        columns policy, deep_share, n, accuracy, low, high (Wilson, 95 %).
    """
    curve = routing_curve(frame, points=1001)
    shares = curve["deep_share"].unique()
    nearest = shares[np.abs(shares - budget).argmin()]
    rows = curve[curve["deep_share"] == nearest][["policy", "deep_share", "accuracy", "n"]]
    ends = curve[(curve["policy"] == "router") & curve["deep_share"].isin([0.0, 1.0])]
    ends = ends.assign(policy=np.where(ends["deep_share"] == 0, "always fast", "always deep"))
    table = pd.concat([rows, ends], ignore_index=True)[["policy", "deep_share", "n", "accuracy"]]
    table["low"], table["high"] = wilson((table["accuracy"] * table["n"]).round(), table["n"])
    return table


def beats_random(frame: pd.DataFrame, budget: float, draws: int = 10_000, seed: int = 0) -> float:
    """One-sided permutation p-value: how often random routing at the same budget gains what the router does."""
    labels = frame["label"].to_numpy()
    fast = frame[[f"p_fast_{k}" for k in range(NUM_CLASSES)]].to_numpy().argmax(1) == labels
    deep = frame[[f"p_deep_{k}" for k in range(NUM_CLASSES)]].to_numpy().argmax(1) == labels
    gain = deep.astype(int) - fast
    sent = round(budget * len(frame))
    chosen = np.argsort(-frame["router"].to_numpy(), kind="stable")[:sent]
    # Only rows whose gain is not 0 matter: how many of each sign a random draw takes is hypergeometric.
    better, worse = int((gain > 0).sum()), int((gain < 0).sum())
    rng = np.random.default_rng(seed)
    taken = rng.multivariate_hypergeometric([better, worse, len(frame) - better - worse], sent, size=draws)
    return float((1 + (taken[:, 0] - taken[:, 1] >= gain[chosen].sum()).sum()) / (draws + 1))


def headline(table: pd.DataFrame, p_random: float) -> dict[str, float]:
    """What the manifest keeps of :func:`at_budget`."""
    accuracy = table.set_index("policy")["accuracy"]
    return {
        "accuracy_router": float(accuracy["router"]),
        "accuracy_random": float(accuracy["random"]),
        "accuracy_always_fast": float(accuracy["always fast"]),
        "accuracy_always_deep": float(accuracy["always deep"]),
        "p_router_is_random": p_random,
    }
