"""What the router's choices are worth: accuracy against the share of texts sent to the deep branch.

Frames hold one row per text: ``label``, ``p_fast_0..K-1``, ``p_deep_0..K-1`` and ``router`` (higher = deeper), as stage
03 writes them in ``validation_scores.parquet`` and ``test_scores.parquet``.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.special import entr

from guardlib.evaluation.metrics import effective_sizes, wilson
from guardlib.labels import LABEL_NAMES, NUM_CLASSES

POLICIES = ("router", "random", "entropy", "oracle")


class RouterCollapse(RuntimeError):
    """The router sends (nearly) everything the same way, so one of the two branches is dead weight."""


def routing_curve(frame: pd.DataFrame, points: int = 101) -> pd.DataFrame:
    """Accuracy over four classes at ``points`` deep shares from 0 to 1, per policy.

    Policies rank the rows and send the first ones deep: ``router`` by its score, ``entropy`` by the fast branch's
    entropy, ``oracle`` by what the deep branch really gains (the ceiling of any router), ``random`` not at all. Rows
    that a policy ranks alike are taken in random order, and the *expected* accuracy over those orders is given in
    closed form; for ``random`` that is the straight line from the fast branch's accuracy to the deep branch's. Rows
    made from one base text are right and wrong together, and count in the intervals for what they are worth.

    Returns:
        columns policy, deep_share, accuracy, low, high, n.
    """
    fast, deep, labels = _branches(frame)
    fast_right, deep_right = fast.argmax(axis=1) == labels, deep.argmax(axis=1) == labels
    gain = deep_right.astype(float) - fast_right
    ranking = {
        "router": frame["router"].to_numpy(dtype=np.float64),
        "random": np.zeros(len(frame)),
        "entropy": entr(fast).sum(axis=1),
        "oracle": gain,
    }
    alone = frame[["example_id"]].assign(all="rows", fast=fast_right, deep=deep_right)
    size = min(float(effective_sizes(alone, ["all"], branch).iloc[0]) for branch in ("fast", "deep"))
    shares = np.linspace(0.0, 1.0, points)
    curves = []
    for policy in POLICIES:
        gained = np.interp(shares * len(frame), np.arange(len(frame) + 1), _expected_gain(ranking[policy], gain))
        accuracy = (fast_right.sum() + gained) / len(frame)
        low, high = wilson(accuracy.clip(0, 1) * size, size)
        curve = {"policy": policy, "deep_share": shares, "accuracy": accuracy, "low": low, "high": high}
        curves.append(pd.DataFrame(curve).assign(n=len(frame)))
    return pd.concat(curves, ignore_index=True)


def routing_by_label(frame: pd.DataFrame, threshold: float | None = None, by: str = "label") -> pd.DataFrame:
    """Deep share (with its 95 % interval) and accuracy of each branch, per value of ``by`` (label, source, family…).

    Which rows went deep is read from the ``route`` column, or from ``router >= threshold`` if a threshold is given.

    Returns:
        columns <by>, n, deep_share, low, high, accuracy_fast, accuracy_deep, accuracy_routed; labels by name.
    """
    fast, deep, labels = _branches(frame)
    went_deep = _went_deep(frame, threshold)
    right = pd.DataFrame(
        {
            by: [LABEL_NAMES[label] for label in labels] if by == "label" else frame[by].to_numpy(),
            "example_id": frame["example_id"].to_numpy(),
            "deep": went_deep,
            "accuracy_fast": fast.argmax(axis=1) == labels,
            "accuracy_deep": deep.argmax(axis=1) == labels,
        }
    )
    right["accuracy_routed"] = np.where(went_deep, right["accuracy_deep"], right["accuracy_fast"])
    groups = right.groupby(by, sort=False)
    table = groups.agg(n=("deep", "size"), deep_share=("deep", "mean"))
    # Rows made from one base text go the same way, and count for what they are worth.
    sizes = effective_sizes(right, [by], "deep").reindex(table.index)
    table["low"], table["high"] = wilson(table["deep_share"] * sizes, sizes)
    table = table.join(groups[["accuracy_fast", "accuracy_deep", "accuracy_routed"]].mean()).reset_index()
    if by == "label":
        return table.sort_values("label", key=lambda names: names.map(LABEL_NAMES.index), ignore_index=True)
    return table.sort_values(by, ignore_index=True)


def scores_by(frame: pd.DataFrame, by: str) -> pd.DataFrame:
    """How hard the router finds the texts of each group, hardest first: <by>, n, p25, median, p75 of the routing logit.

    Groups of fewer than ten rows are left out.
    """
    groups = frame.groupby(by)["router"]
    table = groups.quantile([0.25, 0.5, 0.75]).unstack().set_axis(["p25", "median", "p75"], axis=1)
    table.insert(0, "n", groups.size())
    table = table[table["n"] >= 10].reset_index()
    return table.sort_values("median", ascending=False, ignore_index=True)


def check_collapse(
    share: float, low: float = 0.01, high: float = 0.99, router_std: float | None = None, min_std: float = 1e-4
) -> None:
    """Raise :class:`RouterCollapse` if the deep share leaves [low, high] or the router's scores do not vary.

    The second matters because a threshold calibrated to the budget hides a constant router behind rounding noise.
    """
    advice = "raise training.router_loss_weight, or lower training.learning_rate, and add -p training.resume=false"
    if not low <= share <= high:  # also true for NaN
        raise RouterCollapse(f"the router sends {share:.1%} of texts deep; expected {low:.0%} to {high:.0%}: {advice}")
    if router_std is not None and not router_std >= min_std:
        raise RouterCollapse(
            f"router scores have standard deviation {router_std:.2g}; expected at least {min_std:g}: {advice}"
        )


def _branches(frame: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities of both branches [N, K] and labels [N]; ValueError on missing columns or NaN."""
    fast = [f"p_fast_{k}" for k in range(NUM_CLASSES)]
    deep = [f"p_deep_{k}" for k in range(NUM_CLASSES)]
    missing = [column for column in ("label", "router", *fast, *deep) if column not in frame.columns]
    if missing:
        raise ValueError(f"routing rows lack column(s) {', '.join(missing)}; run notebook 03 again")
    if len(frame) == 0 or frame[["router", *fast, *deep]].isna().any(axis=None):
        raise ValueError(
            f"{len(frame)} routing row(s), some NaN or none at all; expected finite scores: run notebook 03 again"
        )
    return frame[fast].to_numpy(np.float64), frame[deep].to_numpy(np.float64), frame["label"].to_numpy(np.int64)


def _expected_gain(priority: np.ndarray, gain: np.ndarray) -> np.ndarray:
    """Expected total gain [N + 1] of sending the k rows of highest priority deep, ties in random order."""
    _, level, counts = np.unique(-priority, return_inverse=True, return_counts=True)
    mean = np.bincount(level, weights=gain) / counts
    return np.concatenate([[0.0], np.cumsum(np.repeat(mean, counts))])


def _went_deep(frame: pd.DataFrame, threshold: float | None) -> np.ndarray:
    if threshold is not None:
        return frame["router"].to_numpy(dtype=np.float64) >= threshold
    if "route" not in frame.columns:
        raise ValueError("routing rows have no 'route' column; give the router's threshold")
    return (frame["route"] == "deep").to_numpy()
