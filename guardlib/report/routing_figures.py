"""Figures of routing: where the router sends texts, what that is worth, and which expert takes them."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from guardlib.labels import LABEL_NAMES
from guardlib.report.registry import check_fractions, figure
from guardlib.report.style import (
    BLACK,
    BLUE,
    CLASS_COLOURS,
    GREY,
    LOOKS,
    VERMILLION,
    class_name,
    integer_axis,
    legend_above,
    looks,
    new_figure,
    numbered,
    ordered,
    percent_axis,
    readable,
    shortened,
    upper_end,
)


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
    columns = numbered(history, "expert_load_")
    if not columns:
        raise ValueError("expert_load: no column expert_load_0, expert_load_1, … ; 03_train/history.csv has them")
    check_fractions("expert_load", history, tuple(columns))
    loads_ET = history[columns].to_numpy(dtype=float).T  # experts × validations
    x, label = _epoch_axis(history)
    fig, ((ax,),) = new_figure(0.85 + 0.27 * len(columns))
    scale = _around_even(loads_ET)
    image = _share_map(ax, loads_ET, scale, every := max(1, int(np.ceil(len(x) / 14))))
    ax.set(xlabel=label, ylabel="expert")
    ax.set_yticks(range(len(columns)), [name.rsplit("_", 1)[1] for name in columns])
    ax.set_xticks(range(0, len(x), every), [f"{value:g}" for value in x.round(2).iloc[::every]])
    _share_bar(image, [ax], "load")
    return fig


@figure("label", "layer", "expert_0", artifact="04_router_analysis/experts_by_label.csv")
def specialisation(frame: pd.DataFrame) -> Figure:
    """Share of each class's tokens that each expert takes, a panel per layer; white is an even share.

    Args:
        frame: as ``experts.expert_shares`` gives it: label, layer, expert_0, expert_1, … (shares that sum to 1).
    """
    columns = numbered(frame, "expert_")
    check_fractions("specialisation", frame, tuple(columns))
    scale = _around_even(frame[columns].to_numpy().T)
    layers = sorted(frame["layer"].unique())
    classes = [name for name in LABEL_NAMES if name in set(frame["label"])]
    fig, (panels,) = new_figure(0.75 + 0.27 * len(classes), 1, len(layers), sharey=True)
    for ax, layer in zip(panels, layers, strict=True):
        shares = frame[frame["layer"] == layer].set_index("label").loc[classes, columns].to_numpy(dtype=float)
        image = _share_map(ax, shares, scale)
        ax.set_xticks(range(len(columns)), [name.removeprefix("expert_") for name in columns])
        ax.set_xlabel(f"expert of deep layer {layer + 1}")
    panels[0].set_yticks(range(len(classes)), [readable(name) for name in classes])
    panels[0].set_ylabel("class")
    _share_bar(image, list(panels), "tokens")
    return fig


@figure("deep_share", "accuracy", "policy", artifact="04_router_analysis/routing_curve.csv")
def routing_curve(frame: pd.DataFrame, budget: float = 0.30) -> Figure:
    """Accuracy against the share of texts sent deep, for the router and for random, entropy and oracle routing.

    Args:
        frame: deep_share, accuracy (fractions), policy; optional low, high (a band around the curve), n.
        budget: the deep share in use, drawn as a line.
    """
    if not 0 <= budget <= 1:
        raise ValueError(f"routing_curve: budget is {budget!r}; expected a fraction between 0 and 1")
    check_fractions("routing_curve", frame, ("deep_share", "accuracy", "low", "high"))
    fig, ((ax,),) = new_figure(2.6)
    ax.axvline(budget, color=GREY, lw=0.9, ls=(0, (1, 1.5)), zorder=0, label=f"budget ({100 * budget:g} %)")
    policies = sorted(ordered(frame["policy"]), key=lambda name: ("router", "entropy", "random", "oracle").index(name)
                      if name in ("router", "entropy", "random", "oracle") else 9)  # fmt: skip
    for name, look in looks(policies).items():
        curve = frame[frame["policy"] == name].sort_values("deep_share", kind="stable")
        at = float(np.interp(budget, curve["deep_share"], curve["accuracy"]))
        text = f"{look.label} ({100 * at:.1f})"
        front = 4 if name == "router" else 2
        ax.plot(curve["deep_share"], curve["accuracy"], color=look.colour, ls=look.line, zorder=front, label=text,
                lw=1.8 if name == "router" else 1.2)  # fmt: skip
        ax.plot(budget, at, color=look.colour, marker=look.marker, ls="none", zorder=front + 1, ms=4)
        if {"low", "high"} <= set(curve.columns):
            ax.fill_between(curve["deep_share"], curve["low"], curve["high"], color=look.colour, alpha=0.12, lw=0)
    percent_axis(ax.xaxis, (-0.01, 1.01))
    percent_axis(ax.yaxis, limit=None)
    n = f" (n {int(frame['n'].max()):,})" if "n" in frame else ""
    ax.set(xlabel="texts sent to the deep branch (%)", ylabel=f"accuracy, four classes (%){n}")
    handles, labels = ax.get_legend_handles_labels()
    fig.legend(handles[1:] + handles[:1], labels[1:] + labels[:1], loc="outside right center",
               title="accuracy at budget (%)", alignment="left", handlelength=2.2, labelspacing=0.7)  # fmt: skip
    return fig


@figure("deep_share", "low", "high", "n", artifact="04_router_analysis/routing_by_label.csv")
def routing_by_label(frame: pd.DataFrame, budget: float = 0.30) -> Figure:
    """Share of texts sent deep per class, with its interval; or per family or source.

    Args:
        frame: family, source, benchmark or label (number or name); deep_share, low, high (fractions), n.
        budget: the deep share that was asked for, drawn as a line.
    """
    check_fractions("routing_by_label", frame, ("deep_share", "low", "high"))
    known = ("family", "source", "benchmark", "label")
    by = next((column for column in known if column in frame), None)
    if by is None:
        raise ValueError(f"routing_by_label: no column names the rows; expected one of {', '.join(known)}")
    frame = frame.assign(label=frame["label"].map(class_name)) if "label" in frame else frame
    fig, ((ax,),) = new_figure(0.75 + 0.23 * max(len(frame), 3))
    y = np.arange(len(frame))
    colours = [CLASS_COLOURS[name] for name in frame["label"]] if "label" in frame else [BLUE] * len(frame)
    ax.barh(y, frame["deep_share"], height=0.62, color=colours)
    spread = np.clip([frame["deep_share"] - frame["low"], frame["high"] - frame["deep_share"]], 0, None)
    ax.errorbar(frame["deep_share"], y, xerr=spread, fmt="none", ecolor="#222222", elinewidth=0.8, capsize=2)
    for position, row in zip(y, frame.itertuples(), strict=True):
        text = f"{100 * row.deep_share:.1f}"
        ax.annotate(text, (row.high, position), (4, 0), textcoords="offset points", va="center", size=8,
                    zorder=4, bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5})  # fmt: skip
    ax.axvline(budget, color=GREY, lw=0.9, ls=(0, (4, 2)), label=f"budget ({100 * budget:g} %)", zorder=3)
    ax.set_yticks(y, [f"{shortened(name)} (n {n:,.0f})" for name, n in zip(frame[by], frame["n"], strict=True)])
    percent_axis(ax.xaxis, (0, max(upper_end(frame["high"], 1.12), 1.2 * budget)))
    ax.set_xlabel("texts sent to the deep branch (%)")
    ax.set_ylabel("true class" if by == "label" else readable(by), labelpad=6)
    ax.set_ylim(len(frame) - 0.45, -0.55)
    ax.grid(axis="y", visible=False)
    ax.tick_params(axis="y", length=0)
    legend_above(ax)
    return fig


@figure("label", "router", artifact="03_train/test_scores.parquet")
def router_scores(rows: pd.DataFrame, threshold: float | None = None) -> Figure:
    """How hard the router finds the texts of each class: box from quartile to quartile, whiskers at 5 and 95 %.

    Args:
        rows: label (number or name), router (routing logit; higher goes deep).
        threshold: from which a text goes deep, drawn as a line.
    """
    names = rows["label"].map(class_name)
    classes = [name for name in LABEL_NAMES if name in set(names)]
    groups = [rows.loc[names == name, "router"].to_numpy(dtype=float) for name in classes]
    fig, ((ax,),) = new_figure(0.8 + 0.27 * max(len(classes), 2))
    boxes = ax.boxplot(
        groups, orientation="horizontal", whis=(5, 95), showfliers=False, widths=0.55, patch_artist=True,
        medianprops={"color": "#222222"},
    )  # fmt: skip
    for box, name in zip(boxes["boxes"], classes, strict=True):
        box.set(facecolor=CLASS_COLOURS[name], edgecolor="#222222", linewidth=0.8)
    if threshold is not None:
        ax.axvline(threshold, color=GREY, lw=0.9, ls=(0, (4, 2)), label="goes deep from here on", zorder=3)
        legend_above(ax)
    counts = [f"{readable(name)} (n {len(group):,})" for name, group in zip(classes, groups, strict=True)]
    ax.set_yticks(range(1, len(classes) + 1), counts)
    ax.set(xlabel="routing logit", ylabel="true class")
    ax.yaxis.labelpad = 6
    ax.invert_yaxis()
    ax.grid(axis="y", visible=False)
    ax.tick_params(axis="y", length=0)
    return fig


def _around_even(shares_EX: np.ndarray) -> TwoSlopeNorm:
    """Colours of the shares that experts [E, …] take: white in the middle is an even one, small ripples stay pale."""
    even = 1 / len(shares_EX)
    reach = max(0.5 * even, float(np.nanmax(np.abs(shares_EX - even))))
    return TwoSlopeNorm(even, vmin=max(even - reach, 0), vmax=even + reach)


def _share_map(ax: Axes, shares: np.ndarray, scale: TwoSlopeNorm, every: int = 1) -> AxesImage:
    """Heat map with the percentage in each cell of every ``every``-th column."""
    image = ax.imshow(shares, cmap="PuOr", norm=scale, aspect="auto")
    for (row, column), share in np.ndenumerate(shares):
        if column % every == 0:
            colour = "#222222" if 0.15 < scale(share) < 0.85 else "white"
            ax.text(column, row, f"{100 * share:.0f}", ha="center", va="center", size=7.5, color=colour)
    ax.grid(False)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    return image


def _share_bar(image: AxesImage, panels: list[Axes], what: str) -> None:
    scale = image.norm
    bar = image.figure.colorbar(image, ax=panels, pad=0.015, fraction=0.05)
    bar.set_label(f"{what} (%, even {100 * scale.vcenter:.3g})", size=8)
    bar.outline.set_visible(False)
    ends = (scale.vmin, scale.vcenter, scale.vmax)
    bar.set_ticks(ends, labels=[f"{100 * share:.3g}" for share in ends])


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
