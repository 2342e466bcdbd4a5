"""Figures of cost: time from raw string to verdict over all texts and by length, and what each precision costs."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import StrMethodFormatter

from guardlib.evaluation.timings import length_bucket
from guardlib.report.registry import check_fractions, figure
from guardlib.report.style import (
    BLUE,
    GREY,
    VERMILLION,
    legend_above,
    looks,
    new_figure,
    ordered,
    percent_axis,
    plain_log_axis,
    readable,
)


@figure("system", "seconds", artifact="07_cpu_latency/latency.parquet")
def latency_distribution(latency: pd.DataFrame) -> Figure:
    """Share of texts answered within a time, one curve per system; P50 (circle) and P95 (square) are marked.

    Args:
        latency: one row per timed text: system, seconds (> 0).

    Raises:
        ValueError: a time that is not above 0.
    """
    check_seconds("latency_distribution", latency)
    systems = ordered(latency["system"])
    fig, ((ax,),) = new_figure(2.5)
    for name, look in looks(systems).items():
        times = 1000 * latency.loc[latency["system"] == name, "seconds"].to_numpy(dtype=float)
        p50, p95 = np.percentile(times, [50, 95])
        label = f"{look.label} ({len(times):,} timings)\nP50 {_ms(p50)}, P95 {_ms(p95)} ms"
        ax.ecdf(times, color=look.colour, ls=look.line, label=label)
        ax.plot(p50, 0.5, color=look.colour, marker="o", ms=4.5, mec="white", mew=0.6, zorder=4)
        ax.plot(p95, 0.95, color=look.colour, marker="s", ms=4.5, mec="white", mew=0.6, zorder=4)
    ax.set_xscale("log")
    plain_log_axis(ax.xaxis)
    percent_axis(ax.yaxis, (0, 1.02))
    ax.set_yticks([0, 0.25, 0.5, 0.75, 0.95])
    ax.set(xlabel="milliseconds from raw text to verdict", ylabel="texts answered (%)")
    for marker, quantile in (("o", "P50"), ("s", "P95")):
        ax.plot([], [], color=GREY, marker=marker, ms=4.5, ls="none", label=quantile)
    legend = fig.legend(loc="outside right center", labelspacing=0.9, handlelength=2.0)
    for text in legend.get_texts():
        text.set_linespacing(1.0)
    return fig


@figure("system", "tokens", "seconds", artifact="07_cpu_latency/latency.parquet")
def latency_by_length(latency: pd.DataFrame) -> Figure:
    """Median time per length bucket and system, with a whisker up to P95.

    Args:
        latency: one row per timed text: system, tokens, seconds (> 0).
    """
    check_seconds("latency_by_length", latency)
    latency = latency.assign(bucket=length_bucket(latency["tokens"]))
    systems = ordered(latency["system"])
    buckets = [name for name in latency["bucket"].cat.categories if (latency["bucket"] == name).any()]
    fig, ((ax,),) = new_figure(2.3)
    step = min(0.16, 0.7 / len(systems))
    for k, (name, look) in enumerate(looks(systems).items()):
        groups = latency[latency["system"] == name].groupby("bucket", observed=True)["seconds"]
        p50, p95 = 1000 * groups.quantile(0.5), 1000 * groups.quantile(0.95)
        x = np.array([buckets.index(bucket) for bucket in p50.index]) + (k - (len(systems) - 1) / 2) * step
        ax.errorbar(
            x, p50, yerr=[np.zeros(len(p50)), p95 - p50], color=look.colour, marker=look.marker, ls=look.line, lw=1.0,
            elinewidth=0.9, capsize=2, ms=4, label=look.label,
        )  # fmt: skip
    texts = latency.groupby("bucket", observed=True).size() if len(systems) == 1 else _texts(latency)
    ax.set_xticks(range(len(buckets)), [f"{bucket}\n(n {texts[bucket]:,})" for bucket in buckets], linespacing=1.0)
    ax.set_xlim(-0.5, len(buckets) - 0.5)
    ax.set_yscale("log")
    plain_log_axis(ax.yaxis)
    ax.set(xlabel="tokens in the text (n: timings)", ylabel="milliseconds per text")
    handles, labels = ax.get_legend_handles_labels()
    whisker = Line2D([], [], color="#222222", marker="|", ls="none", ms=7)
    legend_above(ax, handles=[*handles, whisker], labels=[*labels, "median to P95"])
    return fig


@figure("characters", "milliseconds", artifact="07_cpu_latency/cost_by_length.csv")
def cost_by_length(lengths: pd.DataFrame) -> Figure:
    """Time of one text against its length on two logarithmic axes, beside a line on which time is as length.

    Args:
        lengths: one row per length: characters, milliseconds (both > 0), in any order.
    """
    lengths = lengths.sort_values("characters")
    x, y = lengths["characters"].to_numpy(dtype=float), lengths["milliseconds"].to_numpy(dtype=float)
    fig, ((ax,),) = new_figure(2.3)
    ax.plot(x, x * y[-1] / x[-1], color=GREY, ls="--", lw=0.9, label="in proportion to the longest text")
    ax.plot(x, y, color=BLUE, marker="o", ms=4, label="guard")
    for axis, scale in ((ax.xaxis, ax.set_xscale), (ax.yaxis, ax.set_yscale)):
        scale("log")
        plain_log_axis(axis)
    ax.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    ax.set(xlabel="characters in the text", ylabel="milliseconds per text")
    legend_above(ax)
    return fig


@figure("precision", "megabytes", "p50_ms", "changed", artifact="06_quantize_onnx/precisions.csv")
def precisions(frame: pd.DataFrame, released: str | None = None) -> Figure:
    """What each precision costs: megabytes, median time of a text, and share of verdicts that are not float32's.

    Args:
        frame: a row per precision: precision, megabytes, p50_ms, changed (a fraction).
        released: the one that is drawn in red.
    """
    check_fractions("precisions", frame, ("changed",))
    names = frame["precision"].tolist()
    fig, (axes,) = new_figure(max(0.75 + 0.22 * len(names), 1.2), 1, 3, sharey=True)
    panels = (("megabytes", 1, "megabytes on disk"), ("p50_ms", 1, "P50, milliseconds"),
              ("changed", 100, "verdicts changed (%)"))  # fmt: skip
    for ax, (column, factor, label) in zip(axes, panels, strict=True):
        values = factor * frame[column].to_numpy(dtype=float)
        ax.barh(range(len(names)), values, height=0.6, color=[VERMILLION if n == released else BLUE for n in names])
        for row, value in enumerate(values):
            ax.annotate(_ms(value), (value, row), (3, 0), textcoords="offset points", va="center", size=7)
        ax.set_xlim(0, 1.25 * max(values.max(), 1e-9))
        ax.set_xlabel(label)
        ax.grid(axis="y", visible=False)
    axes[0].set_yticks(range(len(names)), [readable(name) for name in names])
    axes[0].set_ylabel("precision" + (" (red: released)" if released else ""))
    axes[0].invert_yaxis()
    return fig


def check_seconds(what: str, latency: pd.DataFrame) -> None:
    """ValueError unless every time is above 0."""
    if not (latency["seconds"] > 0).all():
        worst = latency.loc[latency["seconds"].idxmin()]
        raise ValueError(f"{what}: {worst['system']} has a time of {worst['seconds']:g} s; expected times above 0")


def _texts(latency: pd.DataFrame) -> pd.Series:
    """Most timed texts of any one system, per bucket."""
    return latency.groupby(["bucket", "system"], observed=True).size().groupby("bucket", observed=True).max()


def _ms(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.0f}" if value >= 100 else f"{value:.1f}"
