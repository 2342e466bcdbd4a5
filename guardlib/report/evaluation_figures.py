"""Figures of evaluation: what is caught, what is flagged by mistake, how sure the guard is."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from guardlib.labels import LABEL_NAMES
from guardlib.report.registry import check_fractions, figure
from guardlib.report.style import (
    BLUE,
    CLASS_COLOURS,
    GREY,
    VERMILLION,
    class_name,
    legend_top,
    looks,
    new_figure,
    ordered,
    percent_axis,
    readable,
    shortened,
    upper_end,
)

INTERVAL = ("rate", "low", "high")


@figure("label", "predicted", artifact="05_benchmarks/scores.parquet")
def confusion_matrix(rows: pd.DataFrame, system: str | None = None) -> Figure:
    """True class against predicted class, as percent of the true class and as counts.

    Args:
        rows: score rows (label, predicted, optional system), or counted rows (label, predicted, n).
        system: which system, where the rows hold several.

    Raises:
        ValueError: several systems and none chosen, an unknown system, or a label that is no class.
    """
    rows = one_system("confusion_matrix", rows, system)
    counts = pd.DataFrame({"label": rows["label"].map(class_name), "predicted": rows["predicted"].map(class_name)})
    counts["n"] = rows.get("n", 1)
    table_KK = counts.pivot_table(index="label", columns="predicted", values="n", aggfunc="sum", fill_value=0)
    table_KK = table_KK.reindex(index=LABEL_NAMES, columns=LABEL_NAMES, fill_value=0)
    totals_K = table_KK.sum(axis=1)
    share_KK = table_KK.div(totals_K.where(totals_K > 0), axis=0).to_numpy(dtype=float)
    fig, ((ax,),) = new_figure(2.75)
    image = ax.imshow(np.nan_to_num(share_KK), cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for i, j in np.ndindex(share_KK.shape):
        empty = np.isnan(share_KK[i, j])
        text = "–" if empty else f"{100 * share_KK[i, j]:.1f}\n({table_KK.iloc[i, j]:,})"
        dark = not empty and share_KK[i, j] > 0.55
        ax.text(j, i, text, ha="center", va="center", size=8, color="white" if dark else "#222222", linespacing=1.15)
    names = [readable(name) for name in LABEL_NAMES]
    ax.set_xticks(range(len(names)), names)
    ax.set_yticks(range(len(names)), [f"{name}\n(n {n:,})" for name, n in zip(names, totals_K, strict=True)],
                  linespacing=1.0)  # fmt: skip
    ax.set(xlabel="predicted class" + (f", {looks([system])[system].label}" if system else ""), ylabel="true class")
    _bare(ax)
    bar = fig.colorbar(image, ax=ax, pad=0.015, fraction=0.04)
    bar.set_label("share of true class (%)", size=8)
    bar.outline.set_visible(False)
    percent_axis(bar.ax.yaxis)
    return fig


@figure(
    *("variant", "n_pos", "tpr", "tpr_low", "tpr_high", "n_neg", "fpr", "fpr_low", "fpr_high"),
    artifact="05_benchmarks/benchmark_summary.csv",
)
def detection_per_attack(frame: pd.DataFrame) -> Figure:
    """Per transform: attacks caught (TPR), and beside it benign text flagged under the same transform (FPR).

    Args:
        frame: as ``metrics.matched_detection`` gives it, one row per transform and (optional) system: variant, tpr,
            fpr, each with _low and _high (fractions; 95 % interval), n_pos, n_neg. With a column benchmark, transforms
            of the same name in several benchmarks are rows of their own.

    Raises:
        ValueError: a rate outside 0..1.
    """
    sides = {m: (m, f"{m}_low", f"{m}_high") for m in ("tpr", "fpr")}
    check_fractions("detection_per_attack", frame, sides["tpr"] + sides["fpr"])
    frame = _with_system(frame)
    frame = frame.assign(row=row_names(frame, "variant", "benchmark"))
    systems = ordered(frame["system"])
    rank = frame.sort_values("system", key=lambda names: names != systems[0], kind="stable").drop_duplicates("row")
    rows = rank.sort_values("tpr", ascending=False, kind="stable")["row"].tolist()
    fig, ((left, right),) = new_figure(
        min(_row_height(len(rows), len(systems)), 8.8), 1, 2, sharey=True, width_ratios=(3, 2)
    )
    for ax, measure, alone in ((left, "tpr", BLUE), (right, "fpr", VERMILLION)):
        part = frame[["system", "row", *sides[measure]]].set_axis(["system", "row", *INTERVAL], axis="columns")
        _intervals(ax, part, rows, alone)
    sizes = frame.groupby("row")[["n_pos", "n_neg"]].max()
    _row_labels(left, rows, [f"{sizes.n_pos[row]:,.0f} / {sizes.n_neg[row]:,.0f}" for row in rows], "attack transform")
    percent_axis(left.xaxis, (-0.02, 1.02))
    upper = upper_end(frame["fpr_high"])
    percent_axis(right.xaxis, (-0.03 * upper, upper))
    left.set_xlabel("attacks caught (TPR, %)")
    right.set_xlabel("benign under the same\ntransform flagged (FPR, %)", linespacing=1.0)
    right.tick_params(axis="y", length=0)
    if len(systems) > 1:
        _system_legend(fig, systems)
    return fig


@figure("system", "variant", "n_pos", "tpr", "n_neg", "fpr", artifact="05_benchmarks/scores.parquet")
def transform_heatmap(frame: pd.DataFrame) -> Figure:
    """Attacks caught by each system under each transform, and beside it benign text flagged under the same transform.

    Args:
        frame: as ``metrics.matched_detection`` gives it, one row per transform and system: variant, system, tpr, fpr
            (fractions), n_pos, n_neg; optional benchmark, which tells transforms of the same name apart.
    """
    check_fractions("transform_heatmap", frame, ("tpr", "fpr"))
    frame = frame.assign(row=row_names(frame, "variant", "benchmark"))
    rows, systems = ordered(frame["row"]), ordered(frame["system"])
    fig, ((left, right),) = new_figure(min(1.2 + 0.19 * max(len(rows), 6), 8.4), 1, 2, sharey=True)
    panels = ((left, "tpr", "Blues", "attacks caught (TPR, %)"), (right, "fpr", "Oranges", "benign flagged (FPR, %)"))
    for ax, measure, colours, title in panels:
        table = frame.pivot(index="row", columns="system", values=measure).loc[rows, systems].to_numpy(dtype=float)
        ax.imshow(np.nan_to_num(table), cmap=colours, vmin=0, vmax=1, aspect="auto")
        for i, j in np.ndindex(table.shape):
            text = "–" if np.isnan(table[i, j]) else f"{100 * table[i, j]:.0f}"
            ax.text(j, i, text, ha="center", va="center", size=6, color="white" if table[i, j] > 0.6 else "#222222")
        names = [look.label for look in looks(systems).values()]
        ax.set_xticks(range(len(systems)), names, rotation=90, size=7)
        ax.set_xlabel(title)
        _bare(ax)
    sizes = frame.groupby("row")[["n_pos", "n_neg"]].max()
    labels = [f"{shortened(row, 24)} ({sizes.n_pos[row]:,.0f} / {sizes.n_neg[row]:,.0f})" for row in rows]
    left.set_yticks(range(len(rows)), labels, size=6.5)
    left.set_ylabel("transform (n / n benign)")
    return fig


@figure("benchmark", "rate", "low", "high", "n", artifact="05_benchmarks/benchmark_summary.csv")
def over_defence(frame: pd.DataFrame, target: float | None = None) -> Figure:
    """False-positive rate on each set of benign texts, with its interval.

    Args:
        frame: as ``metrics.rates`` gives it, one row per benign set and (optional) system: benchmark, rate, low, high
            (fractions), n. Of a column metric only "fpr" is drawn; a column variant tells rows of a benchmark apart.
        target: optional false-positive rate that was asked for on validation, drawn as a line.
    """
    check_fractions("over_defence", frame, INTERVAL)
    if "metric" in frame:
        frame = frame[frame["metric"] == "fpr"]
        if frame.empty:
            raise ValueError('over_defence: no row has metric "fpr"; expected rates of benign rows (metrics.rates)')
    frame = _with_system(frame)
    frame = frame.assign(row=row_names(frame, "benchmark", "variant"))
    sets, systems = ordered(frame["row"]), ordered(frame["system"])
    fig, ((ax,),) = new_figure(_row_height(len(sets), len(systems)))
    _intervals(ax, frame, sets, VERMILLION)
    sizes = frame.groupby("row")["n"].max()
    _row_labels(ax, sets, [f"{sizes[row]:,.0f}" for row in sets], "benign set", width=34)
    upper = upper_end(frame["high"])
    percent_axis(ax.xaxis, (-0.015 * upper, upper))
    ax.set_xlabel("benign texts flagged (FPR, %)")
    handles = []
    if target is not None:
        label = f"target on validation ({100 * target:g} %)"
        handles = [ax.axvline(target, color=GREY, lw=0.9, ls=(0, (4, 2)), zorder=0, label=label)]
    if len(systems) > 1 or handles:
        _system_legend(fig, systems if len(systems) > 1 else [], handles)
    return fig


@figure("label", "score", artifact="05_benchmarks/scores.parquet")
def score_distribution(rows: pd.DataFrame, threshold: float | None = 0.5, system: str | None = None) -> Figure:
    """Histogram of the attack score 1 − P(benign), one panel per true class; shares on a log scale, so tails show.

    Args:
        rows: score rows: label, score (0..1), optional system.
        threshold: score from which a text is flagged, drawn as a line; None draws none.
        system: which system, where the rows hold several.
    """
    check_fractions("score_distribution", rows, ("score",))
    rows = one_system("score_distribution", rows, system)
    rows = rows.assign(label=rows["label"].map(class_name))
    present = [name for name in LABEL_NAMES if (rows["label"] == name).any()]
    fig, axes = new_figure(0.6 + 0.58 * max(len(present), 2), len(present), 1, sharex=True, sharey=True)
    edges = np.linspace(0, 1, 41)
    floor = 0.4 / max((rows["label"] == name).sum() for name in present)
    for ax, name in zip(axes[:, 0], present, strict=True):
        scores = rows.loc[rows["label"] == name, "score"]
        share, _ = np.histogram(scores, edges)
        ax.stairs(share / len(scores), edges, fill=True, color=CLASS_COLOURS[name], baseline=floor, alpha=0.85)
        ax.set(yscale="log", ylim=(floor, 1.6), xlim=(-0.005, 1.005))
        label = f"{readable(name)} (n {len(scores):,})"
        if threshold is not None:
            ax.axvline(threshold, color="#222222", lw=0.9, ls=(0, (4, 2)))
            label += f", {100 * (scores >= threshold).mean():.1f} % flagged"
        ax.set_title(label, size=8, pad=2, color="#222222")
        decades = [tick for tick in (1e-4, 1e-2, 1.0) if tick >= floor]
        ax.set_yticks(decades, [f"{100 * tick:g}" for tick in decades])
        ax.set_yticks([], minor=True)
    fig.supylabel("share of class per bin (%)", size=9)
    at = f"; dashed: threshold {threshold:.3g}" if threshold is not None else ""
    axes[-1, 0].set_xlabel(f"attack score{at}")
    return fig


@figure("score", "rate", "low", "high", "n", artifact="05_benchmarks/scores.parquet")
def reliability(frame: pd.DataFrame) -> Figure:
    """Reliability plot: observed share of attacks against mean score per bin, and how many texts fall in each bin.

    Args:
        frame: as ``metrics.reliability`` gives it, one row per bin and (optional) system: score (mean in the bin), rate
            (share of attacks), low, high (fractions), n.
    """
    check_fractions("reliability", frame, ("score", *INTERVAL))
    frame = _with_system(frame)
    systems = ordered(frame["system"])
    fig, ((left, right),) = new_figure(2.5, 1, 2, width_ratios=(3, 2))
    left.plot([0, 1], [0, 1], color=GREY, lw=0.9, ls=(0, (4, 2)), label="perfect", zorder=1)
    for name, look in looks(systems).items():
        bins = frame[frame["system"] == name].sort_values("score", kind="stable")
        error = float((bins["n"] * (bins["rate"] - bins["score"]).abs()).sum() / max(bins["n"].sum(), 1))
        spread = np.clip([bins["rate"] - bins["low"], bins["high"] - bins["rate"]], 0, None)
        left.errorbar(
            bins["score"], bins["rate"], yerr=spread, color=look.colour, marker=look.marker, ls=look.line,
            lw=1.1, elinewidth=0.8, label=f"{look.label}, ECE {100 * error:.1f} %",
        )  # fmt: skip
        style = {"color": look.colour, "marker": look.marker, "ls": look.line, "lw": 1.1}
        right.plot(bins["score"], bins["n"].clip(lower=1), **style)
    percent_axis(left.xaxis, (-0.02, 1.02))
    percent_axis(left.yaxis, (-0.02, 1.02))
    percent_axis(right.xaxis, (-0.02, 1.02))
    right.set_yscale("log")
    ticks = 10.0 ** np.arange(0, np.ceil(np.log10(max(frame["n"].max(), 10))) + 1)
    right.set_yticks(ticks, [f"{tick:,.0f}" for tick in ticks])
    right.set_yticks([], minor=True)
    left.set(xlabel="mean attack score in bin (%)", ylabel="observed attacks (%)")
    right.set(xlabel="mean attack score in bin (%)", ylabel="texts per bin")
    legend_top(fig, left.get_legend_handles_labels()[0])
    return fig


def one_system(what: str, rows: pd.DataFrame, system: str | None) -> pd.DataFrame:
    """The rows of ``system``; ValueError when it is not there, or when there are several and none was chosen."""
    if "system" not in rows:
        return rows
    names = sorted(map(str, rows["system"].unique()))
    if system is None and len(names) > 1:
        raise ValueError(f"{what}: the rows hold {len(names)} systems ({', '.join(names)}); choose one with system=")
    if system is not None and system not in names:
        raise ValueError(f"{what}: no rows of system {system!r}; the rows hold {', '.join(names)}")
    return rows if system is None else rows[rows["system"] == system]


def row_names(frame: pd.DataFrame, by: str, other: str) -> pd.Series:
    """Names from column ``by``; "benchmark, variant" where a system has the same name twice, or the name is empty."""
    names = frame[by].astype(str)
    if other not in frame:
        return names
    twice = frame.assign(name=names).groupby(["name", "system"])["name"].transform("size") > 1
    several = twice.groupby(names).transform("any") | (names == "")
    return names.where(~several, (frame["benchmark"].astype(str) + ", " + frame["variant"].astype(str)).str.strip(", "))


def _with_system(frame: pd.DataFrame) -> pd.DataFrame:
    return frame if "system" in frame else frame.assign(system="guard")


def _row_height(rows: int, systems: int) -> float:
    """Inches for a dot plot of ``rows`` names with one dot per system in each."""
    return 0.85 + max(rows, 3) * max(0.2, 0.085 * systems + 0.08)


def _intervals(ax: Axes, frame: pd.DataFrame, names: list, alone: str) -> None:
    """Dots with interval lines, one row of the axes per name; a single system takes the colour ``alone``."""
    systems = ordered(frame["system"])
    step = 0.7 / max(len(systems), 1)
    for k, (system, look) in enumerate(looks(systems).items()):
        part = frame[frame["system"] == system]
        y = part["row"].map(names.index).to_numpy(dtype=float) + (k - (len(systems) - 1) / 2) * step
        spread = np.clip([part["rate"] - part["low"], part["high"] - part["rate"]], 0, None)
        colour = alone if len(systems) == 1 else look.colour
        ax.errorbar(part["rate"], y, xerr=spread, fmt=look.marker, color=colour, elinewidth=1.0, ms=3.8)


def _row_labels(ax: Axes, names: list, sizes: list[str], title: str, width: int = 26) -> None:
    """Names of the rows with n; a light band behind every other row."""
    labels = [f"{shortened(name, width)} (n {size})" for name, size in zip(names, sizes, strict=True)]
    ax.set_yticks(range(len(names)), labels, size=7.5)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.set_ylabel(title, labelpad=6)
    for panel in ax.figure.axes:
        panel.grid(axis="y", visible=False)
        panel.tick_params(axis="y", length=0)
        for row in range(0, len(names), 2):
            panel.axhspan(row - 0.5, row + 0.5, color="#F5F5F5", lw=0, zorder=0)


def _system_legend(fig: Figure, systems: list, extra: list | None = None) -> None:
    dots = [Line2D([], [], color=k.colour, marker=k.marker, ls="none", label=k.label) for k in looks(systems).values()]
    legend_top(fig, dots + (extra or []))


def _bare(ax: Axes) -> None:
    """No grid, ticks or frame: for matrices."""
    ax.grid(False)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
