"""Threshold-free metrics of score rows, with intervals from a bootstrap over clusters.

Rows made from one base text (the same goal flipped three ways, the same context with two attacks) are not independent,
so whole clusters are drawn, not rows. The cluster of a row is the part of its ``example_id`` after ``@``; an id without
one is a cluster of its own.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from guardlib.evaluation.benchmarks import pooled_rows
from guardlib.evaluation.calibration import TARGET_FPRS
from guardlib.evaluation.metrics import BINS, CONFIDENCE, clusters, compare, prepared, score_bins

OVERALL = "all"
#: False alarms that a rate must allow for the recall at it to be told.
FEWEST_ALARMS = 4


def ranking(
    rows: pd.DataFrame,
    target_fprs: tuple[float, ...] = TARGET_FPRS,
    samples: int = 1000,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> pd.DataFrame:
    """AUROC, average precision, recall at given false-positive rates and F1, per benchmark and overall.

    Only benchmarks with both kinds of rows appear; "all" are those rows that stand in one benchmark alone.

    F1 is at the rows' own threshold. ``recall_at_fpr_<t>`` takes, in each sample anew, the lowest threshold whose
    false-positive rate on these rows is at most t: what a user could reach, not what a fixed threshold does. It is NaN
    where t of the benign rows are fewer than :data:`FEWEST_ALARMS`: it would hang on a row or two. Percentile intervals
    over ``samples`` draws; draws without one of the kinds are left out.

    Returns:
        columns benchmark ("all": pooled), system, metric, n_pos, n_neg, clusters, value, low, high.
    """
    rows = prepared(rows)
    pooled = pooled_rows(rows).assign(benchmark=OVERALL)
    rng = np.random.default_rng(seed)
    table = []
    for (benchmark, system), part in pd.concat([rows, pooled]).groupby(["benchmark", "system"], sort=False):
        n_pos = int(part["positive"].sum())
        if 0 < n_pos < len(part):
            cluster = clusters(part["example_id"])
            facts = {"n_pos": n_pos, "n_neg": len(part) - n_pos, "clusters": int(cluster.max()) + 1}
            values = bootstrap(_measures(part, target_fprs), cluster, samples, confidence, rng)
            for few in (t for t in target_fprs if t * facts["n_neg"] < FEWEST_ALARMS):
                values[f"recall_at_fpr_{few:g}"] = dict.fromkeys(("value", "low", "high"), np.nan)
            table += [{"benchmark": benchmark, "system": system, "metric": m, **facts, **v} for m, v in values.items()]
    columns = ["benchmark", "system", "metric", "n_pos", "n_neg", "clusters", "value", "low", "high"]
    return pd.DataFrame(table, columns=columns)


def compare_all(
    rows: pd.DataFrame, system: str, samples: int = 1000, confidence: float = CONFIDENCE, seed: int = 0
) -> pd.DataFrame:
    """``system`` against every other one on the same examples, all benchmarks pooled.

    Paired bootstrap over base texts of the differences in accuracy, F1 and AUROC; of accuracy also the p-value of
    :func:`.metrics.compare`, with Holm's correction for the number of systems.

    Returns:
        columns system, other, metric ("accuracy", "f1", "auroc"), n, clusters, difference (system - other), low, high,
        only_system_right, only_other_right, p_value, p_holm (of accuracy; of the others NaN). ValueError if the systems
        scored different examples.
    """
    from statsmodels.stats.multitest import multipletests

    judged = prepared(rows)
    keys = ["benchmark", "example_id"]
    mine = judged[judged["system"] == system].sort_values(keys, ignore_index=True)
    rng, table = np.random.default_rng(seed), []
    for other in judged["system"].unique():
        if other == system:
            continue
        pairs = compare(rows, system, other)
        theirs = judged[judged["system"] == other].sort_values(keys, ignore_index=True)
        cluster = clusters(mine["example_id"])
        facts = {"system": system, "other": other, "n": len(mine), "clusters": int(cluster.max()) + 1}
        facts |= {name: int(pairs[name]) for name in ("only_system_right", "only_other_right")}
        for metric, value in bootstrap(_differences(mine, theirs), cluster, samples, confidence, rng).items():
            value["difference"] = value.pop("value")
            table.append({**facts, "metric": metric, **value})
            if metric == "accuracy":
                table[-1]["p_value"] = pairs["p_value"]
    columns = ["system", "other", "metric", "n", "clusters", "difference", "low", "high"]
    columns += ["only_system_right", "only_other_right", "p_value"]
    table = pd.DataFrame(table, columns=columns)
    tested = table["metric"] == "accuracy"
    if tested.any():
        table.loc[tested, "p_holm"] = multipletests(table.loc[tested, "p_value"], method="holm")[1]
    return table if tested.any() else table.assign(p_holm=np.nan)


def calibration_error(
    rows: pd.DataFrame, bins: int = BINS, samples: int = 1000, confidence: float = CONFIDENCE, seed: int = 0
) -> pd.DataFrame:
    """Expected calibration error of P(attack): mean |score − share of attacks| over bins, weighted by their rows.

    Naeini et al., "Obtaining Well Calibrated Probabilities Using Bayesian Binning", AAAI 2015, section 2. An absolute
    value is never below 0, so of few rows the error, and each of the bootstrap's, comes out too high.

    Returns:
        columns system, n, clusters, ece, low, high.
    """
    rng, table = np.random.default_rng(seed), []
    for system, part in prepared(rows).groupby("system", sort=False):
        cluster = clusters(part["example_id"])
        values = bootstrap(_calibration(part, bins), cluster, samples, confidence, rng)["ece"]
        facts = {"system": system, "n": len(part), "clusters": int(cluster.max()) + 1}
        table.append({**facts, "ece": values.pop("value"), **values})
    return pd.DataFrame(table, columns=["system", "n", "clusters", "ece", "low", "high"])


def _calibration(part: pd.DataFrame, bins: int) -> Callable[[np.ndarray], dict[str, float]]:
    """The calibration error as a function of row weights: the gap of a bin is the weighted sum of score − label."""
    score = part["score"].to_numpy(float)
    excess, bin_of = score - part["positive"].to_numpy(float), score_bins(score, bins)

    def measure(weights: np.ndarray) -> dict[str, float]:
        return {"ece": np.abs(np.bincount(bin_of, weights * excess, bins)).sum() / weights.sum()}

    return measure


def _differences(mine: pd.DataFrame, theirs: pd.DataFrame) -> Callable[[np.ndarray], dict[str, float]]:
    """Differences in accuracy, F1 and AUROC as a function of row weights; both hold the same examples in order."""
    sides = [(_measures(part, ()), (part["flagged"] == part["positive"]).to_numpy(float)) for part in (mine, theirs)]

    def differences(weights: np.ndarray) -> dict[str, float]:
        (a, right_a), (b, right_b) = ((measures(weights), right) for measures, right in sides)
        accuracy = float((weights * (right_a - right_b)).sum() / weights.sum())
        return {"accuracy": accuracy} | {name: a[name] - b[name] for name in ("f1", "auroc")}

    return differences


def bootstrap(
    measures: Callable[[np.ndarray], dict[str, float]],
    cluster: np.ndarray,
    samples: int,
    confidence: float,
    rng: np.random.Generator,
) -> dict[str, dict[str, float]]:
    """``{metric: {value, low, high}}`` of ``measures(weights)``; ``weights`` [N]: how often each row was drawn."""
    count = int(cluster.max()) + 1
    value = measures(np.ones(len(cluster)))
    drawn = [measures(rng.multinomial(count, np.full(count, 1 / count))[cluster].astype(float)) for _ in range(samples)]
    tail = 50 * (1 - confidence)
    result = {}
    for name in value:
        sampled = np.array([draw[name] for draw in drawn])
        sampled = sampled[~np.isnan(sampled)]
        low, high = np.percentile(sampled, [tail, 100 - tail]) if len(sampled) else (np.nan, np.nan)
        result[name] = {"value": float(value[name]), "low": float(low), "high": float(high)}
    return result


def _measures(part: pd.DataFrame, target_fprs: tuple[float, ...]) -> Callable[[np.ndarray], dict[str, float]]:
    """All metrics as a function of row weights. Rows are sorted once: scikit-learn would sort them for every draw."""
    order = np.argsort(-part["score"].to_numpy(), kind="stable")
    score = part["score"].to_numpy()[order]
    positive = part["positive"].to_numpy()[order].astype(float)
    flagged = part["flagged"].to_numpy()[order].astype(float)
    starts = np.flatnonzero(np.r_[True, score[1:] != score[:-1]])  # rows of equal score count as one step

    def measures(weights: np.ndarray) -> dict[str, float]:
        weights = weights[order]
        names = ["auroc", "average_precision", *(f"recall_at_fpr_{t:g}" for t in target_fprs), "f1"]
        hits, alarms = np.add.reduceat(weights * positive, starts), np.add.reduceat(weights * (1 - positive), starts)
        n_pos, n_neg = hits.sum(), alarms.sum()
        if n_pos == 0 or n_neg == 0:
            return dict.fromkeys(names, np.nan)
        caught, wrong = np.cumsum(hits), np.cumsum(alarms)
        auroc = (alarms * (caught - hits / 2)).sum() / (n_pos * n_neg)  # a tie is worth half
        precision = np.divide(caught, caught + wrong, out=np.zeros_like(caught), where=caught + wrong > 0)
        average_precision = (hits * precision).sum() / n_pos
        recalls = [caught[wrong <= t * n_neg + 1e-9].max(initial=0.0) / n_pos for t in target_fprs]
        true_flags = (weights * positive * flagged).sum()
        f1 = 2 * true_flags / ((weights * flagged).sum() + n_pos)
        return dict(zip(names, [auroc, average_precision, *recalls, f1], strict=True))

    return measures
