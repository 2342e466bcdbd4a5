"""Figures of data and training: what went in, how the losses fell."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from guardlib.labels import LABEL_NAMES
from guardlib.report.registry import check_fractions, figure
from guardlib.report.style import (
    BLACK,
    CLASS_COLOURS,
    GREY,
    LOOKS,
    class_name,
    integer_axis,
    legend_above,
    new_figure,
    percent_axis,
    readable,
    shortened,
)

MAX_SOURCES = 24  # rows of the data figure; smaller sources are drawn as one


@figure("tokens", "train_loss", "val_loss", "val_accuracy_fast", "val_accuracy_deep", "val_accuracy_routed",
        artifact="03_train/history.csv")  # fmt: skip
def training_curves(history: pd.DataFrame, steps: pd.DataFrame | None = None) -> Figure:
    """Losses, and validation accuracy of the fast branch, the deep branch and the routed model, against tokens seen.

    The losses are two measures: what training lowers (focal losses of both branches, router and balance together), and
    the mean cross entropy of both branches on validation text.

    Args:
        history: one row per validation: tokens, train_loss, val_loss, val_accuracy_fast, _deep, _routed.
        steps: optional; one row per optimizer step (tokens, loss), drawn as a faint line under the losses.
    """
    accuracies = ("val_accuracy_fast", "val_accuracy_deep", "val_accuracy_routed")
    check_fractions("training_curves", history, accuracies)
    fig, ((left, right),) = new_figure(2.3, 1, 2)
    scale, unit = _token_unit(history["tokens"].max())
    x = history["tokens"] / scale
    if steps is not None and {"tokens", "loss"} <= set(steps.columns) and len(steps):
        left.plot(steps["tokens"] / scale, steps["loss"], color="#D0D0D0", lw=0.6, label="step", zorder=1)
    left.plot(x, history["train_loss"], color=GREY, marker="o", label="training: all parts, focal")
    left.plot(x, history["val_loss"], color=BLACK, marker="s", label="validation: cross entropy")
    left.set(ylabel="loss")
    left.set_ylim(bottom=0)
    for column, key in zip(accuracies, ("fast", "deep", "routed"), strict=True):
        look = LOOKS[key]
        right.plot(x, history[column], color=look.colour, marker=look.marker, ls=look.line, label=key)
    right.set(ylabel="validation accuracy (%)")
    percent_axis(right.yaxis, limit=None)
    for ax in (left, right):
        ax.set_xlabel(f"training tokens ({unit})")
        ax.set_xlim(left=0)
        legend_above(ax)
    return fig


@figure("source", "label", artifact="01_data/train.parquet")
def data_composition(records: pd.DataFrame, top: int = MAX_SOURCES) -> Figure:
    """Rows per source and class; sources beyond the ``top`` largest are drawn as one.

    Args:
        records: one row per text (source, label), or counted rows (source, label, n).
        top: sources shown by name.
    """
    counts = records.assign(label=records["label"].map(class_name), n=records.get("n", 1))
    table = counts.pivot_table(index="source", columns="label", values="n", aggfunc="sum", fill_value=0)
    table = table.reindex(columns=[name for name in LABEL_NAMES if name in table], fill_value=0)
    table = table.loc[table.sum(axis=1).sort_values(ascending=False, kind="stable").index]
    if len(table) > top:
        rest = table.iloc[top - 1 :]
        table = pd.concat([table.iloc[: top - 1], rest.sum().to_frame(f"{len(rest)} smaller sources").T])
    fig, ((ax,),) = new_figure(0.95 + 0.165 * max(len(table), 2))
    y = np.arange(len(table))
    offset = np.zeros(len(table))
    for name in table.columns:
        label = f"{readable(name)} ({table[name].sum():,})"
        ax.barh(y, table[name], left=offset, height=0.72, color=CLASS_COLOURS[name], label=label)
        offset += table[name].to_numpy()
    for position, total in zip(y, offset, strict=True):
        ax.annotate(f"{total:,.0f}", (total, position), (3, 0), textcoords="offset points", va="center", size=7)
    ax.set_yticks(y, [shortened(name, 34) for name in table.index], size=7.5)
    ax.set_ylabel("source", labelpad=6)
    ax.set(xlabel=f"texts (n {int(offset.sum()):,})", ylim=(len(table) - 0.4, -0.6))
    ax.set_xlim(0, 1.1 * max(offset.max(), 1))
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    integer_axis(ax.xaxis)
    ax.grid(axis="y", visible=False)
    ax.tick_params(axis="y", length=0)
    fig.legend(loc="outside upper center", ncols=len(table.columns), columnspacing=0.9, handlelength=1.0)
    return fig


def _token_unit(most: float) -> tuple[float, str]:
    """Divisor and name of the unit in which ``most`` tokens read well."""
    return (1e6, "millions") if most >= 1e6 else (1e3, "thousands") if most >= 1e3 else (1.0, "count")
