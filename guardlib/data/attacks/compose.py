"""Indirect injection: an instruction put into a document."""

from __future__ import annotations

import re

import numpy as np

POSITIONS = ("start", "middle", "end")
_BREAK = re.compile(r"(?<=[.!?。！？])\s+|\n+")


def compose(context: str, instruction: str, position: str, rng: np.random.Generator) -> str:
    """Indirect injection: ``instruction`` inside ``context`` at its start, middle or end, the way BIPIA puts it there.

    Middle: at the sentence or line break nearest to a random place in the middle half, else at a space.
    Source: Yi et al. 2023, Benchmarking and Defending Against Indirect Prompt Injection, arXiv 2312.14197.

    Raises:
        ValueError: ``position`` is none of POSITIONS.
    """
    if position not in POSITIONS:
        raise ValueError(f"position {position!r} does not exist; expected one of {', '.join(POSITIONS)}")
    joint = str(rng.choice(["\n", "\n\n", " "]))
    if position == "start":
        return instruction + joint + context
    if position == "end":
        return context + joint + instruction
    target = int(len(context) * rng.uniform(0.25, 0.75))
    breaks = [match.end() for match in _BREAK.finditer(context)]
    breaks = breaks or [match.end() for match in re.finditer(r"\s+", context)]
    place = min(breaks, key=lambda at: abs(at - target), default=target)
    return context[:place].rstrip() + joint + instruction + joint + context[place:].lstrip()


def excerpt(text: str, limit: int, rng: np.random.Generator) -> str:
    """At most ``limit`` characters of ``text``, from a random line or sentence on, cut between words."""
    if len(text) <= limit:
        return text
    starts = [0] + [match.end() for match in _BREAK.finditer(text) if match.end() <= len(text) - limit]
    start = starts[int(rng.integers(len(starts)))]
    cut = text[start : start + limit]
    if start + limit < len(text) and (space := max(cut.rfind(" "), cut.rfind("\n"))) > limit // 2:
        cut = cut[:space]
    return cut.strip()
