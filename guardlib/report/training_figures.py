"""Figures of data and training: what went in, how the losses fell, where the router sent it, which expert took it."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure

from guardlib.labels import LABEL_NAMES
from guardlib.report.registry import check_fractions, figure
from guardlib.report.style import (
    BLACK,
    CLASS_COLOURS,
    GREY,
    LOOKS,
    VERMILLION,
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
    left.plot(x, history["train_loss"], color=GREY, marker="o", label="training")
    left.plot(x, history["val_loss"], color=BLACK, marker="s", label="validation")
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


@figure("epoch", "deep_share", "router_std", artifact="03_train/history.csv")
def routing_over_epochs(history: pd.DataFrame, budget: float = 0.30) -> Figure:
    """Share of validation texts sent deep, against the budget, and the spread of router scores (0 means collapse).

    Args:
        history: one row per validation: epoch (fractional where there are several per epoch), deep_share, router_std.
        budget: the deep share that was asked for.

    Raises:
        ValueError: budget or a share outside 0..1.
    """
    if not 0 <= budget <= 1:
        raise ValueError(f"routing_over_epochs: budget is {budget!r}; expected a fraction between 0 and 1")
    check_fractions("routing_over_epochs", history, ("deep_share",))
    fig, ((left, right),) = new_figure(2.0, 1, 2, width_ratios=(3, 2))
    x, label = _epoch_axis(history)
    look = LOOKS["router"]
    left.axhline(budget, color=VERMILLION, lw=0.9, ls=(0, (4, 2)), label=f"budget ({100 * budget:g} %)", zorder=1)
    left.plot(x, history["deep_share"], color=look.colour, marker="o", label="sent deep")
    percent_axis(left.yaxis)
    left.set(xlabel=label, ylabel="texts sent deep (%)")
    last = history["deep_share"].iloc[-1]
    above = last >= budget or last < 0.15  # never on the axis or the budget line
    left.annotate(
        f"{100 * last:.1f}", (x.iloc[-1], last), (0, 5 if above else -5), textcoords="offset points", size=8,
        color=look.colour, ha="center", va="bottom" if above else "top",
    )  # fmt: skip
    legend_above(left)
    right.plot(x, history["router_std"], color=BLACK, marker="s")
    right.set(xlabel=label, ylabel="std. of router score")
    right.set_ylim(0, max(1.15 * history["router_std"].max(), 1e-3))
    for ax in (left, right):
        _pad_single(ax, x)
    return fig


@figure("epoch", artifact="03_train/history.csv")
def expert_load(history: pd.DataFrame) -> Figure:
    """Share of deep tokens that each expert took at each validation; white is an even share, purple more, orange less.

    Args:
        history: one row per validation: epoch, expert_load_0, expert_load_1, … (shares that sum to 1).

    Raises:
        ValueError: no ``expert_load_*`` column, or a load outside 0..1.
    """
    columns = sorted((c for c in history if c.startswith("expert_load_")), key=lambda name: int(name.rsplit("_", 1)[1]))
    if not columns:
        raise ValueError("expert_load: no column expert_load_0, expert_load_1, … ; 03_train/history.csv has them")
    check_fractions("expert_load", history, tuple(columns))
    loads_ET = history[columns].to_numpy(dtype=float).T  # experts × validations
    even = 1 / len(columns)
    x, label = _epoch_axis(history)
    fig, ((ax,),) = new_figure(0.85 + 0.27 * len(columns))
    reach = max(0.5 * even, float(np.nanmax(np.abs(loads_ET - even))))  # small ripples stay pale
    scale = TwoSlopeNorm(even, vmin=max(even - reach, 0), vmax=even + reach)
    image = ax.imshow(loads_ET, cmap="PuOr", norm=scale, aspect="auto")
    every = max(1, int(np.ceil(len(x) / 14)))
    for e, row in enumerate(loads_ET):
        for t in range(0, len(row), every):
            colour = "#222222" if 0.15 < scale(row[t]) < 0.85 else "white"
            ax.text(t, e, f"{100 * row[t]:.0f}", ha="center", va="center", size=7.5, color=colour)
    ax.set(xlabel=label, ylabel="expert")
    ax.set_yticks(range(len(columns)), [name.rsplit("_", 1)[1] for name in columns])
    ax.set_xticks(range(0, len(x), every), [f"{value:g}" for value in x.round(2).iloc[::every]])
    ax.grid(False)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    bar = fig.colorbar(image, ax=ax, pad=0.015, fraction=0.05)
    bar.set_label(f"load (%, even {100 * even:.3g})", size=8)
    bar.outline.set_visible(False)
    ends = (scale.vmin, even, scale.vmax)
    bar.set_ticks(ends, labels=[f"{100 * value:.3g}" for value in ends])
    return fig


@figure("label", "layer", "expert_0", artifact="04_router_analysis/experts_by_label.csv")
def specialisation(frame: pd.DataFrame) -> Figure:
    """Share of each class's tokens that each expert takes, a panel per layer; white is an even share.

    Args:
        frame: as ``experts.expert_shares`` gives it: label, layer, expert_0, expert_1, … (shares that sum to 1).
    """
    columns = [name for name in frame if name.startswith("expert_")]
    check_fractions("specialisation", frame, tuple(columns))
    layers, even = sorted(frame["layer"].unique()), 1 / len(columns)
    reach = max(0.5 * even, float(np.abs(frame[columns].to_numpy() - even).max()))
    scale = TwoSlopeNorm(even, vmin=max(even - reach, 0), vmax=even + reach)
    classes = [name for name in LABEL_NAMES if name in set(frame["label"])]
    fig, (panels,) = new_figure(0.75 + 0.27 * len(classes), 1, len(layers), sharey=True)
    for ax, layer in zip(panels, layers, strict=True):
        shares = frame[frame["layer"] == layer].set_index("label").loc[classes, columns].to_numpy(dtype=float)
        image = ax.imshow(shares, cmap="PuOr", norm=scale, aspect="auto")
        for (row, column), value in np.ndenumerate(shares):
            colour = "#222222" if 0.15 < scale(value) < 0.85 else "white"
            ax.text(column, row, f"{100 * value:.0f}", ha="center", va="center", size=7.5, color=colour)
        ax.set_xticks(range(len(columns)), [name.removeprefix("expert_") for name in columns])
        ax.set_xlabel(f"expert of deep layer {layer + 1}")
        ax.grid(False)
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
    panels[0].set_yticks(range(len(classes)), [readable(name) for name in classes])
    panels[0].set_ylabel("class")
    bar = fig.colorbar(image, ax=list(panels), pad=0.015, fraction=0.04)
    bar.set_label(f"tokens (%, even {100 * even:.3g})", size=8)
    bar.outline.set_visible(False)
    ends = (scale.vmin, even, scale.vmax)
    bar.set_ticks(ends, labels=[f"{100 * value:.3g}" for value in ends])
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


def _epoch_axis(history: pd.DataFrame) -> tuple[pd.Series, str]:
    """Epochs where each validation has its own, else the running number of the validation."""
    epochs = history["epoch"].astype(float)
    if epochs.is_unique and epochs.is_monotonic_increasing:
        return epochs, "epoch"
    return pd.Series(np.arange(1, len(history) + 1, dtype=float)), "validation"


def _pad_single(ax: Axes, x: pd.Series) -> None:
    """Room around a single point; whole-number ticks where all points lie on whole numbers."""
    if len(x) == 1:
        ax.set_xlim(x.iloc[0] - 1, x.iloc[0] + 1)
        ax.set_xticks([x.iloc[0]], [f"{x.iloc[0]:g}"])
    elif (x % 1 == 0).all():
        integer_axis(ax.xaxis)
