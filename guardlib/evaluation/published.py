"""Figures that others published, from one data file; printed as "published", never mixed with what is measured here."""

from __future__ import annotations

import json
from importlib.resources import files

import pandas as pd

PUBLISHED_COLUMNS = ("system", "size", "benchmark", "metric", "value", "unit", "note", "source")


def load_published(benchmark: str | None = None) -> pd.DataFrame:
    """All published figures (PUBLISHED_COLUMNS), or those of one benchmark; ``source`` says where each was read.

    ``value`` is as printed, in ``unit`` ("%", "ms" or "" for a plain number). Figures of a suite's parts are listed as
    "notinject/one" and so on.
    """
    rows = json.loads(files("guardlib.evaluation").joinpath("published.json").read_text(encoding="utf-8"))
    table = pd.DataFrame(rows, columns=list(PUBLISHED_COLUMNS))
    if benchmark is None:
        return table
    known = sorted(table["benchmark"].unique())
    if benchmark not in known:
        raise ValueError(f"no published figure for {benchmark!r}; there are figures for {', '.join(known)}")
    return table[table["benchmark"] == benchmark].reset_index(drop=True)
