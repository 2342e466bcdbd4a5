"""Metrics as pure functions of score rows (SCORE_COLUMNS): tidy frames in which every rate has n and an interval.

A row is *positive* where ``label > 0`` and *flagged* where ``predicted > 0``; :func:`at_threshold` re-decides stored
rows at another threshold. Plain harmful requests (family ``harmful_request``) attack nobody's instructions: every
function here leaves them out, except :func:`harmful_requests`, which reports them apart.

Rows made from one base text (the same goal under twenty transforms) are not independent: an interval counts them for
what they are worth together (:func:`effective_sizes`).

Threshold-free metrics with bootstrap intervals are in :mod:`guardlib.evaluation.ranking`.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy.stats import binomtest, norm, permutation_test, t

from guardlib.labels import HARMFUL_REQUEST, LABEL_NAMES

CONFIDENCE = 0.95
BINS = 15  # of scores, for calibration
CLUSTER_MARK = "@"  # in an example id: what follows names the base text; an id without it is a base of its own


def wilson(hits, n, confidence: float = CONFIDENCE) -> tuple[np.ndarray, np.ndarray]:
    """Wilson score interval of ``hits`` out of ``n``, elementwise; NaN where n is 0.

    Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", JASA 1927.
    """
    hits, n = np.asarray(hits, dtype=np.float64), np.asarray(n, dtype=np.float64)
    if (hits < 0).any() or (hits > n).any():
        raise ValueError("hits must lie between 0 and n")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}; expected a number between 0 and 1, such as 0.95")
    z2 = norm.ppf(0.5 + confidence / 2) ** 2
    with np.errstate(invalid="ignore", divide="ignore"):
        rate = hits / n
        centre = (rate + z2 / (2 * n)) / (1 + z2 / n)
        half = np.sqrt(z2 * (rate * (1 - rate) / n + z2 / (4 * n**2))) / (1 + z2 / n)
    low, high = np.where(hits == 0, 0.0, centre - half), np.where(hits == n, 1.0, centre + half)  # exact at the ends
    return np.where(n > 0, low, np.nan), np.where(n > 0, high, np.nan)


def clusters(example_ids: pd.Series) -> np.ndarray:
    """Number of the base text [N] of each example id."""
    names = example_ids.astype(str).str.rsplit(CLUSTER_MARK, n=1).str[-1]
    return pd.factorize(names)[0]


def effective_sizes(rows: pd.DataFrame, by: list[str], column: str) -> pd.Series:
    """How many independent rows tell as much of the rate of ``column`` as those of each group, by the values of ``by``.

    p (1 - p) over the variance of the rate p among clusters, a ratio estimate linearised (Cochran, Sampling Techniques,
    1977, section 9.A; for binomial intervals: Korn and Graubard, Survey Methodology 1998); at most the number of rows,
    that of clusters where no row differs, and 1 where there is one cluster.
    """
    part = rows[by].assign(cluster=clusters(rows["example_id"]), hit=rows[column].astype(float))
    groups = part.groupby(by, sort=False)
    n, rate, bases = groups.size(), groups["hit"].mean(), groups["cluster"].nunique()
    part["residual"] = part["hit"] - groups["hit"].transform("mean")
    squares = part.groupby([*by, "cluster"], sort=False)["residual"].sum().pow(2).groupby(level=by, sort=False).sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        few = (bases - 1) / bases * n / (n - 1)  # the variance is one of a sample; 1 for rows that are all apart
        sizes = (rate * (1 - rate) * n**2 / squares.reindex(n.index) * few).clip(lower=1, upper=n)
    return sizes.where((rate > 0) & (rate < 1), bases).where(bases > 1, 1)


def mean_interval(values: np.ndarray, confidence: float = CONFIDENCE) -> tuple[float, float, float]:
    """Mean and its Student-t interval, of seeds say; for a single value the interval is infinite."""
    values = np.asarray(values, float)
    if len(values) < 2:
        return float(values.mean()), -np.inf, np.inf
    half = t.ppf((1 + confidence) / 2, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean()), float(values.mean() - half), float(values.mean() + half)


def at_threshold(rows: pd.DataFrame, threshold: float | Mapping[str, float]) -> pd.DataFrame:
    """The rows with a boolean column ``flagged`` = ``score >= threshold``; one threshold, or one per system.

    Metrics prefer this column to ``predicted``. So a threshold fixed on validation is carried to every benchmark.
    """
    if isinstance(threshold, Mapping):
        unknown = sorted(set(rows["system"]) - set(threshold))
        if unknown:
            raise ValueError(
                f"no threshold for system(s) {', '.join(unknown)}; given for {', '.join(sorted(threshold))}"
            )
        limit = rows["system"].map(threshold).astype(float)
    else:
        limit = threshold
    return rows.assign(flagged=rows["score"] >= limit)


def rates(
    rows: pd.DataFrame, by: tuple[str, ...] = ("benchmark", "variant"), confidence: float = CONFIDENCE
) -> pd.DataFrame:
    """Detection rate of attacks (``tpr``) and false-positive rate of benign rows (``fpr``), per system and ``by``.

    Returns:
        columns <by>, system, metric ("tpr" or "fpr"), n, hits, rate, low, high.
    """
    rows = prepared(rows)
    rows["metric"] = np.where(rows["positive"], "tpr", "fpr")
    return _share(rows, [*by, "system", "metric"], "flagged", confidence)


def harmful_requests(rows: pd.DataFrame, confidence: float = CONFIDENCE) -> pd.DataFrame:
    """Share of plain harmful requests that is flagged; neither right nor wrong, so reported apart.

    Returns:
        columns benchmark, system, n, hits, rate, low, high.
    """
    return _share(prepared(rows, harmful=True), ["benchmark", "system"], "flagged", confidence)


def headline(rows: pd.DataFrame, confidence: float = CONFIDENCE) -> pd.DataFrame:
    """One row per benchmark and system: accuracy (attack or not), tpr and fpr, each with its interval.

    Returns:
        columns benchmark, system, n, accuracy, accuracy_low, accuracy_high, n_pos, tpr, tpr_low, tpr_high,
        n_neg, fpr, fpr_low, fpr_high. Rates of a kind of row that the benchmark lacks are NaN.
    """
    rows = prepared(rows)
    rows["right"] = rows["flagged"] == rows["positive"]
    keys, table = ["benchmark", "system"], rows[["benchmark", "system"]].drop_duplicates(ignore_index=True)
    sides = (("accuracy", "n", rows, "right"), ("tpr", "n_pos", rows[rows["positive"]], "flagged"))
    for name, n, part, column in (*sides, ("fpr", "n_neg", rows[~rows["positive"]], "flagged")):
        side = _share(part, keys, column, confidence).drop(columns="hits")
        named = side.rename(columns={"n": n, "rate": name, "low": f"{name}_low", "high": f"{name}_high"})
        table = table.merge(named, "left", keys)
        table[n] = table[n].fillna(0).astype(int)
    return table


def matched_detection(rows: pd.DataFrame, confidence: float = CONFIDENCE) -> pd.DataFrame:
    """Detection per transform, beside the false-positive rate on benign text under the same transform.

    Only (benchmark, variant) pairs that hold both kinds of rows appear. ``informedness`` = tpr − fpr is 0 for a
    guard that flags every odd string; its interval is Newcombe's hybrid score interval (Statistics in Medicine 1998,
    method 10).

    Returns:
        columns benchmark, variant, system, n_pos, tpr, tpr_low, tpr_high, n_neg, fpr, fpr_low, fpr_high,
        informedness, informedness_low, informedness_high.
    """
    keys = ["benchmark", "variant", "system"]
    table = rates(rows, confidence=confidence)
    sides = []
    for metric, n in (("tpr", "n_pos"), ("fpr", "n_neg")):
        side = table[table["metric"] == metric].drop(columns=["metric", "hits"])
        names = {"rate": metric, "low": f"{metric}_low", "high": f"{metric}_high", "n": n}
        sides.append(side.rename(columns=names))
    both = sides[0].merge(sides[1], on=keys)
    both["informedness"] = both["tpr"] - both["fpr"]
    below = np.hypot(both["tpr"] - both["tpr_low"], both["fpr_high"] - both["fpr"])
    above = np.hypot(both["tpr_high"] - both["tpr"], both["fpr"] - both["fpr_low"])
    both["informedness_low"], both["informedness_high"] = both["informedness"] - below, both["informedness"] + above
    return both


def confusion(rows: pd.DataFrame) -> pd.DataFrame:
    """Counts over the four classes, all 16 cells, per system.

    Returns:
        columns system, label, predicted (both by name), n, share (of the rows of that label).
    """
    rows = prepared(rows)
    index = pd.MultiIndex.from_product(
        [rows["system"].unique(), range(len(LABEL_NAMES)), range(len(LABEL_NAMES))],
        names=["system", "label", "predicted"],
    )
    table = rows.groupby(["system", "label", "predicted"]).size().reindex(index, fill_value=0).rename("n").reset_index()
    total = table.groupby(["system", "label"])["n"].transform("sum")
    table["share"] = table["n"] / total.where(total > 0)
    for column in ("label", "predicted"):
        table[column] = table[column].map(dict(enumerate(LABEL_NAMES)))
    return table


def sign_flip(net: np.ndarray, alternative: str = "two-sided", samples: int = 9999, seed: int = 0) -> float:
    """p-value that the rows gained [N], one number per base text, add up to as much by chance.

    Rows made from one base text are right and wrong together, so each base changes its sign as a whole (Fisher, The
    Design of Experiments 1935, section 21): the sum tested is that of the rows, the unit is the base. Where no base has
    more to say than another this is McNemar's exact test (Psychometrika 1947), and is computed so; else by ``samples``
    random draws of signs, or by all of them where they are fewer. 1 where nothing was gained or lost.

    Args:
        alternative: "two-sided", or "greater" for as much gained or more.
    """
    net = np.sort(net[net != 0])  # so that the draws do not depend on the order of rows
    if not len(net):
        return 1.0
    if (np.abs(net) == np.abs(net[0])).all():
        return float(binomtest(int((net > 0).sum()), len(net), alternative=alternative).pvalue)
    drawn = permutation_test(
        (net,), np.sum, permutation_type="samples", vectorized=True, n_resamples=samples, batch=500,
        alternative=alternative, rng=np.random.default_rng(seed),
    )  # fmt: skip
    return float(drawn.pvalue)


def compare(rows: pd.DataFrame, system: str, other: str) -> dict[str, float]:
    """Paired test of ``system`` against ``other`` on the same examples, all benchmarks together.

    Returns:
        n, only_system_right, only_other_right (rows), difference (accuracy), p_value (of that difference, over base
        texts: :func:`sign_flip`).

    Raises:
        ValueError: one of them has no rows, or the two did not score the same examples.
    """
    judged = prepared(rows)
    judged["right"] = judged["flagged"] == judged["positive"]
    keys = ["benchmark", "example_id"]
    sides = []
    for name in (system, other):
        side = judged.loc[judged["system"] == name].set_index(keys)["right"]
        if side.empty:
            raise ValueError(
                f"system {name!r} has no score rows; there are {', '.join(sorted(rows['system'].unique()))}"
            )
        sides.append(side)
    a, b = sides
    if len(a) != len(b) or not a.index.isin(b.index).all():
        raise ValueError(
            f"{system!r} has {len(a)} rows and {other!r} {len(b)}, not of the same examples; score both on all"
        )
    pairs = pd.DataFrame({"a": a & ~b.reindex(a.index), "b": ~a & b.reindex(a.index)}).reset_index()
    won, lost = int(pairs["a"].sum()), int(pairs["b"].sum())
    net = pairs["a"].astype(int) - pairs["b"].astype(int)
    p_value = sign_flip(net.groupby(clusters(pairs["example_id"])).sum().to_numpy())
    counts = {"n": len(pairs), "only_system_right": won, "only_other_right": lost}
    return counts | {"difference": (won - lost) / len(pairs), "p_value": p_value}


def reliability(rows: pd.DataFrame, bins: int = BINS) -> pd.DataFrame:
    """Mean score against the share of attacks, in ``bins`` equal-width bins of the score, per system; no empty bins.

    Returns:
        columns system, bin, n, score (mean), rate (share of attacks), low, high.
    """
    rows = prepared(rows)
    rows["bin"] = score_bins(rows["score"].to_numpy(), bins)
    table = _share(rows, ["system", "bin"], "positive", CONFIDENCE).drop(columns="hits")
    score = rows.groupby(["system", "bin"])["score"].mean().reset_index()
    return table.merge(score, on=["system", "bin"]).sort_values(["system", "bin"], ignore_index=True)


def score_bins(scores: np.ndarray, bins: int = BINS) -> np.ndarray:
    """Number of the equal-width bin of [0, 1] that each score falls into, int64 [N]."""
    return np.minimum((scores * bins).astype(np.int64), bins - 1)


def prepared(rows: pd.DataFrame, harmful: bool = False) -> pd.DataFrame:
    """A copy without (``harmful``: with only) plain harmful requests; boolean ``positive`` and ``flagged`` added."""
    rows = rows[(rows["family"] == HARMFUL_REQUEST) == harmful]
    flagged = rows["flagged"] if "flagged" in rows.columns else rows["predicted"] > 0
    return rows.assign(positive=rows["label"] > 0, flagged=flagged)


def _share(rows: pd.DataFrame, by: list[str], column: str, confidence: float) -> pd.DataFrame:
    """Columns <by>, n, hits, rate, low, high of a boolean column; the interval is that of the effective size."""
    table = rows.groupby(by, sort=False)[column].agg(n="size", hits="sum").reset_index()
    table["rate"] = table["hits"] / table["n"]
    sizes = effective_sizes(rows, by, column).to_numpy()  # of the same groups in the same order
    table["low"], table["high"] = wilson(table["rate"] * sizes, sizes, confidence)
    return table
