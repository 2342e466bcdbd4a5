"""Figures of distillation: what is asked of the student when, what each loss does, whom it learns from, the result."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from guardlib.report.registry import check_fractions, figure
from guardlib.report.style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    VERMILLION,
    integer_axis,
    legend_above,
    legend_top,
    looks,
    new_figure,
    numbered,
    ordered,
    percent_axis,
    plain_log_axis,
)

#: One colour and line per loss, the same in every figure.
PART_LOOKS = {
    "lm": ("text itself", BLACK, "-"),
    "kd": ("KD", BLUE, "-"),
    "feature": ("feature", VERMILLION, "-"),
    "attention": ("attention", ORANGE, (0, (4, 1.5))),
    "layerwise": ("layerwise", GREEN, (0, (4, 1.5, 1, 1.5))),
    "contrastive": ("contrastive", PURPLE, (0, (1, 1))),
}
_ARTIFACT = "09_distillation/routed_0/steps.csv"


@figure("progress", "kd", "feature", "attention", "layerwise", "contrastive", artifact="09_distillation/curriculum.csv")
def distillation_curriculum(shares: pd.DataFrame) -> Figure:
    """Share of each part over the run.

    Args:
        shares: one row per point of progress: progress, kd, feature, attention, layerwise, contrastive (all 0..1).
    """
    parts = ("kd", "feature", "attention", "layerwise", "contrastive")
    check_fractions("distillation_curriculum", shares, ("progress", *parts))
    fig, ((ax,),) = new_figure(1.9)
    for part in parts:
        label, colour, line = PART_LOOKS[part]
        ax.plot(shares["progress"], shares[part], color=colour, ls=line, label=label)
    percent_axis(ax.xaxis)
    percent_axis(ax.yaxis, (0, 1.03))
    ax.set(xlabel="progress of the run (%)", ylabel="share of weight (%)")
    legend_above(ax)
    return fig


@figure("step", "raw_lm", "weighted_lm", artifact=_ARTIFACT)
def distillation_losses(steps: pd.DataFrame) -> Figure:
    """Every loss as it is (left) and as it counts (right) over the optimizer steps.

    Args:
        steps: one row per logged step: step, raw_<part> and weighted_<part>; parts come and go.
    """
    fig, ((left, right),) = new_figure(2.6, 1, 2, sharex=True)
    handles = []
    for part, (label, colour, line) in PART_LOOKS.items():
        for ax, kind in ((left, "raw"), (right, "weighted")):
            column = f"{kind}_{part}"
            if column in steps and (shown := steps[steps[column] > 0]).size:
                style = {"color": colour, "ls": line, "label": label, "marker": "o", "ms": 2}
                (drawn,) = ax.plot(shown["step"], shown[column], **style)
                handles += [drawn] if kind == "raw" else []
    for ax, title in ((left, "raw"), (right, "weighted")):
        ax.set_yscale("log")
        plain_log_axis(ax.yaxis)
        ax.set(xlabel="optimizer step", ylabel=f"{title} loss")
        integer_axis(ax.xaxis, 5)
    legend_top(fig, handles)
    return fig


@figure("step", "experts", artifact=_ARTIFACT)
def expert_use(steps: pd.DataFrame) -> Figure:
    """Share of all weight that the router gave each of the teacher's experts, and how many it took per token.

    Args:
        steps: logged steps with routing: step, experts, expert_use_0, expert_use_1, … (shares that sum to 1).

    Raises:
        ValueError: no ``expert_use_*`` column, or a share outside 0..1.
    """
    columns = numbered(steps, "expert_use_")
    if not columns:
        raise ValueError("expert_use: no column expert_use_0, expert_use_1, … ; a routed run's steps.csv has them")
    check_fractions("expert_use", steps, tuple(columns))
    fig, ((ax, count),) = new_figure(2.2, 1, 2, width_ratios=(3, 2))
    palette = (BLUE, ORANGE, GREEN, VERMILLION, SKY, PURPLE, GREY, BLACK)
    bottom = np.zeros(len(steps))
    for number, column in enumerate(columns):
        top = bottom + steps[column].to_numpy(float)
        colour = palette[number % len(palette)]
        ax.fill_between(steps["step"], bottom, top, color=colour, lw=0, alpha=0.85, step="mid")
        if np.ptp(steps["step"]) > 0 and (top - bottom).max() > 0.09:
            widest = int((top - bottom).argmax())
            side, shift = ("left", 2) if widest == 0 else ("right", -2) if widest == len(steps) - 1 else ("center", 0)
            place = steps["step"].iloc[widest], (bottom + top)[widest] / 2
            ax.annotate(column.rsplit("_", 1)[1], place, (shift, 0), textcoords="offset points", color="white", size=7,
                        ha=side, va="center", weight="bold")  # fmt: skip
        bottom = top
    percent_axis(ax.yaxis)
    ax.set(xlabel="optimizer step", ylabel="weight by expert (%)")
    count.step(steps["step"], steps["experts"], color=BLACK, where="mid")
    count.set(xlabel="optimizer step", ylabel="experts per token", ylim=(0, max(4, steps["experts"].max()) + 0.5))
    for axis in (ax.xaxis, count.xaxis):
        integer_axis(axis, 4)
    integer_axis(count.yaxis)
    for panel in (ax, count):
        panel.set_xlim(steps["step"].min() - 0.5, steps["step"].max() + 0.5)
    return fig


@figure("step", "capacity", "gap", artifact=_ARTIFACT)
def student_capacity(steps: pd.DataFrame) -> Figure:
    """How many of the directions open to them the student's states fill, and its distance to the teacher's experts.

    Args:
        steps: logged steps with routing: step, capacity, gap (both 0..1).
    """
    check_fractions("student_capacity", steps, ("capacity", "gap"))
    fig, ((left, right),) = new_figure(2.0, 1, 2)
    for ax, column, colour, label in (
        (left, "capacity", BLUE, "capacity (% of directions)"),
        (right, "gap", VERMILLION, "knowledge gap (%)"),
    ):
        ax.plot(steps["step"], steps[column], color=colour, marker="o", ms=2.5)
        ax.set(xlabel="optimizer step", ylabel=label)
        percent_axis(ax.yaxis, limit=None)
        ax.set_ylim(0, max(1.15 * steps[column].max(), 0.01))
        integer_axis(ax.xaxis, 5)
        if len(steps) == 1:
            ax.set_xlim(steps["step"].iloc[0] - 1, steps["step"].iloc[0] + 1)
    return fig


@figure("system", "seed", "step", "val_perplexity", artifact="09_distillation/curves.csv")
def distillation_perplexity(curves: pd.DataFrame) -> Figure:
    """Validation perplexity over the steps: the mean over seeds, with the range from best to worst; and at the end.

    Args:
        curves: one row per evaluation: system (recipe), seed, step, val_perplexity.
    """
    fig, ((left, right),) = new_figure(2.5, 1, 2, width_ratios=(3, 2))
    names = ordered(curves["system"])
    for place, (name, look) in enumerate(looks(names).items()):
        own = curves[curves["system"] == name]
        by_step = own.groupby("step")["val_perplexity"].agg(["mean", "min", "max"])
        left.plot(by_step.index, by_step["mean"], color=look.colour, marker=look.marker, ls=look.line, label=look.label)
        left.fill_between(by_step.index, by_step["min"], by_step["max"], color=look.colour, alpha=0.15, lw=0)
        best = own.groupby("seed")["val_perplexity"].min()
        right.plot(best, [place] * len(best), color=look.colour, marker=look.marker, ls="none", alpha=0.6)
        right.plot([best.mean()] * 2, [place - 0.3, place + 0.3], color=look.colour, lw=1.5)
    left.set_yscale("log")
    plain_log_axis(left.yaxis)
    left.set(xlabel="optimizer step", ylabel="validation perplexity")
    integer_axis(left.xaxis, 5)
    right.set_yticks(range(len(names)), [look.label for look in looks(names).values()])
    right.set(xlabel="best, by seed", ylabel="recipe", ylim=(len(names) - 0.4, -0.6))
    right.margins(x=0.15)
    legend_above(left)
    return fig
