"""What a precision costs on the task, and which one is released.

A graph that is close in logits can still lose where texts lie near the threshold, so each precision is judged by its
score rows against those of the torch model on the same texts. The smallest in :data:`ORDER` that passes is released.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from guardlib.config import Profile
from guardlib.evaluation.benchmarks import underived_rows
from guardlib.evaluation.metrics import clusters, prepared, sign_flip
from guardlib.evaluation.scores import score_rows
from guardlib.export.onnx import ExportError
from guardlib.export.release import PRECISIONS, guard_folder
from guardlib.labels import LABEL_NAMES
from guardlib.paths import run_again
from guardlib.runtime.guard import Guard

#: What is tried, in order, from ``export.precision`` on.
ORDER = ("int8", "int8_mixed", "int8_blocks", "float16", "float32")
_TIMED = 40  # texts at most, one at a time
_CHANCE = 0.05


def score_guard(guard: Guard, benchmarks: pd.DataFrame, system: str) -> pd.DataFrame:
    """Score rows of a loaded guard at its default threshold; ``seconds`` is the mean time per text.

    Each text by itself, as a service reads them: INT8 scores depend a little on what stands in the same batch. Texts
    above the guard's limit are cut to it.
    """
    started = time.perf_counter()
    bar = tqdm(benchmarks["text"], desc=system, unit="text", leave=False)
    verdicts = [guard.scan(text, truncate=True) for text in bar]
    seconds = (time.perf_counter() - started) / max(len(benchmarks), 1)
    probabilities = np.array([verdict.probabilities for verdict in verdicts]).reshape(-1, len(LABEL_NAMES))
    routes = np.array([verdict.route for verdict in verdicts])
    return score_rows(benchmarks, system, probabilities, guard.threshold, routes, seconds)


def metric_changes(before: pd.DataFrame, after: pd.DataFrame) -> pd.DataFrame:
    """What quantization cost: each benchmark's accuracy, TPR and FPR from the score rows of both on the same texts.

    Derived benchmarks are left out: their rows are made from those of others, which would count twice in the mean.

    Returns:
        ``benchmark, metric, n, before, after`` (rates), ``loss`` (percentage points, above 0 is worse), ``worse,
        better`` (rows that became wrong and right), ``p`` (one-sided, over base texts: so large a loss by chance;
        :func:`.metrics.sign_flip`); largest loss first.

    Raises:
        ValueError: ``after`` holds an example that ``before`` does not.
    """
    keys = ["benchmark", "example_id"]
    before, after = (prepared(underived_rows(rows)) for rows in (before, after))
    both = after.merge(before[[*keys, "flagged"]], "left", keys, suffixes=("", "_before"))
    if both["flagged_before"].isna().any():
        first = both.loc[both["flagged_before"].isna(), "example_id"].iloc[0]
        raise ValueError(
            f"example {first!r} has no row before quantization; expected the same benchmarks: run stage 05 again"
        )
    flagged, was = both["flagged"].astype(bool), both["flagged_before"].astype(bool)
    attack, base = both["positive"], clusters(both["example_id"])
    change = (flagged != attack).astype(int) - (was != attack).astype(int)  # 1: became wrong, -1: right
    parts = {"accuracy": (attack | ~attack, attack), "tpr": (attack, True), "fpr": (~attack, True)}
    rows = []
    for benchmark in both["benchmark"].unique():
        for metric, (kind, hit) in parts.items():
            here = (both["benchmark"] == benchmark) & kind
            if not here.any():
                continue
            rate_before, rate_after = ((x == hit)[here].mean() for x in (was, flagged))
            worse, better = (int((change[here] == sign).sum()) for sign in (1, -1))
            net = change[here].groupby(base[here]).sum()  # copies of one text change together
            p = sign_flip(net.to_numpy(), "greater")
            loss = 100 * (worse - better) / here.sum()
            rows.append((benchmark, metric, int(here.sum()), rate_before, rate_after, loss, worse, better, p))
    columns = ["benchmark", "metric", "n", "before", "after", "loss", "worse", "better", "p"]
    frame = pd.DataFrame(rows, columns=columns)
    return frame.sort_values("loss", ascending=False, kind="stable", ignore_index=True)


def failures(changes: pd.DataFrame, most: float) -> pd.DataFrame:
    """The rows of :func:`metric_changes` that forbid a release, and metrics whose ``mean of benchmarks`` does.

    A mean over benchmarks may lose at most ``most`` points. So may one benchmark's metric, unless so few rows changed
    that the loss is within chance (p ≥ 0.05): of 60 texts near the threshold one alone is 1.7 points. Of a dozen
    benchmarks one in twenty would fail so by chance alone, hence Holm's correction over the benchmarks of a metric.
    """
    from statsmodels.stats.multitest import multipletests

    p = changes.groupby("metric")["p"].transform(lambda each: multipletests(each, method="holm")[1])
    single = changes[(changes["loss"] > most) & (p < _CHANCE)]
    mean = changes.groupby("metric", as_index=False)["loss"].mean().assign(benchmark="mean of benchmarks")
    return pd.concat([single, mean[mean["loss"] > most]], ignore_index=True)


def compare_precisions_on_task(
    folder: Path, benchmarks: pd.DataFrame, before: pd.DataFrame, profile: Profile
) -> pd.DataFrame:
    """Every precision on a sample of ``export.compared_rows`` rows per benchmark and label.

    Writes ``precisions.csv``, and ``precision_changes.csv``: :func:`metric_changes` of every precision.

    Returns:
        ``precision, megabytes, n, mean_dscore`` (mean |Δ score|), ``changed`` (share of verdicts), ``worst_metric,
        worst_loss`` (points), ``p50_ms`` (one text at a time).
    """
    kept = benchmarks.sample(frac=1, random_state=profile.seed).groupby(["benchmark", "label"])
    sample = kept.head(profile.export.compared_rows).sort_index()
    keys = ["benchmark", "example_id"]
    before = before.set_index(keys).loc[pd.MultiIndex.from_frame(sample[keys])]
    rows, every = [], []
    for precision in PRECISIONS:
        path = guard_folder(folder, precision, profile)
        guard = Guard.load(path)
        after = score_guard(guard, sample, precision)
        changes = metric_changes(before.reset_index(), after)
        every.append(changes.assign(precision=precision))
        worst = changes.iloc[0]
        texts = sample["text"].iloc[:: -(-len(sample) // _TIMED)].tolist()
        rows.append(
            {
                "precision": precision,
                "megabytes": sum(file.stat().st_size for file in path.iterdir()) / 1e6,
                "n": len(sample),
                "mean_dscore": float(np.abs(after["score"].to_numpy() - before["score"].to_numpy()).mean()),
                "changed": float(((after["predicted"] > 0).to_numpy() != (before["predicted"] > 0).to_numpy()).mean()),
                "worst_metric": f"{worst['benchmark']} {worst['metric']} (n {worst['n']})",
                "worst_loss": float(worst["loss"]),
                "p50_ms": 1000 * float(np.median([_seconds(guard, text) for text in texts])),
            }
        )
    frame = pd.DataFrame(rows)
    frame.to_csv(folder / "precisions.csv", index=False)
    pd.concat(every).to_csv(folder / "precision_changes.csv", index=False)
    return frame


def accuracy_lost(folder: Path) -> pd.DataFrame:
    """Points of accuracy that each precision lost (above 0 is worse) on the sample: benchmarks × precisions, and n."""
    changes = pd.read_csv(folder / "precision_changes.csv")
    accuracy = changes[changes["metric"] == "accuracy"]
    table = accuracy.pivot(index="benchmark", columns="precision", values="loss")[list(PRECISIONS)]
    table.insert(0, "n", accuracy.drop_duplicates("benchmark").set_index("benchmark")["n"])
    return table.rename_axis(columns=None)


def choose(
    folder: Path, benchmarks: pd.DataFrame, before: pd.DataFrame, profile: Profile
) -> tuple[str, pd.DataFrame, pd.DataFrame]:
    """The first precision of :data:`ORDER` that passes, on every benchmark row; its folder becomes ``guard/``.

    Writes ``released_scores.parquet`` and ``gate.csv`` (every metric of every precision tried).

    Returns:
        The precision, its score rows (system ``int8``, ``float16``…), and its metric changes.

    Raises:
        ExportError: none passes, float32 included, so the export itself changes verdicts; gate.csv says which.
    """
    wanted = profile.export.precision
    tried = []
    for precision in ORDER[ORDER.index(wanted) :] if wanted in ORDER else (wanted,):
        rows = score_guard(Guard.load(guard_folder(folder, precision, profile)), benchmarks, precision)
        changes = metric_changes(before, rows)
        forbidding = failures(changes, profile.export.most_lost_points)
        tried.append(changes.assign(precision=precision, passed=forbidding.empty))
        pd.concat(tried).to_csv(folder / "gate.csv", index=False)  # as it goes: each takes minutes
        if forbidding.empty:
            break
        print(f"{precision} does not pass: {', '.join(map(_lost, forbidding.itertuples()))}")
    if wanted in ORDER and len(forbidding):
        raise ExportError(
            f"no precision passes, {precision} included: {_lost(next(forbidding.itertuples()))}, of at most "
            f"{profile.export.most_lost_points:g}: the graphs are not the model; see {folder / 'gate.csv'}, "
            f"and {run_again(folder, '06')} --force"
        )
    if precision != wanted:
        guard_folder(folder, wanted, profile).rename(folder / f"guard_{wanted}")
        (folder / f"guard_{precision}").rename(folder / "guard")
    rows.to_parquet(folder / "released_scores.parquet")
    return precision, rows, changes


def _lost(row) -> str:
    return f"{row.benchmark} {row.metric} loses {row.loss:.1f} points"


def passed(folder: Path, precision: str) -> bool:
    """Whether :func:`choose` let ``precision`` pass: one asked for by name is in ``guard/`` though it failed."""
    tried = pd.read_csv(folder / "gate.csv").set_index("precision")["passed"]
    return bool(tried.loc[[precision]].all())


def _seconds(guard: Guard, text: str) -> float:
    guard.scan(text, truncate=True)
    started = time.perf_counter()
    guard.scan(text, truncate=True)
    return time.perf_counter() - started
