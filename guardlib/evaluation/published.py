"""Figures that others published, from one data file; printed as "published", never mixed with what is measured here."""

from __future__ import annotations

import json
from importlib.resources import files

import pandas as pd

PUBLISHED_COLUMNS = ("system", "size", "benchmark", "metric", "value", "unit", "note", "source")


def load_published() -> pd.DataFrame:
    """All published figures (PUBLISHED_COLUMNS); ``source`` says where each was read.

    ``value`` is as printed, in ``unit`` ("%", "ms" or "" for a plain number). Figures of a suite's parts are listed as
    "notinject/one" and so on.
    """
    rows = json.loads(files("guardlib.evaluation").joinpath("published.json").read_text(encoding="utf-8"))
    return pd.DataFrame(rows, columns=list(PUBLISHED_COLUMNS))
