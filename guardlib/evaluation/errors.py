"""The worst mistakes, with their texts: the quickest way to see what a guard has and has not learnt."""

from __future__ import annotations

import pandas as pd

from guardlib.labels import HARMFUL_REQUEST, LABEL_NAMES


def worst_errors(rows: pd.DataFrame, benchmarks: pd.DataFrame, each: int = 8, characters: int = 160) -> pd.DataFrame:
    """The ``each`` most confident false alarms and misses of one system's score rows, texts cut to ``characters``.

    Harmful requests are left out: flagging them is neither right nor wrong.
    """
    rows = rows[rows["family"] != HARMFUL_REQUEST].merge(benchmarks[["example_id", "text"]], on="example_id")
    flagged = rows["predicted"] > 0
    false_alarms = rows[flagged & (rows["label"] == 0)].nlargest(each, "score").assign(error="false alarm")
    misses = rows[~flagged & (rows["label"] > 0)].nsmallest(each, "score").assign(error="missed")
    worst = pd.concat([false_alarms, misses], ignore_index=True)
    worst["label"] = worst["label"].map(LABEL_NAMES.__getitem__)
    worst["text"] = worst["text"].str.slice(0, characters).str.replace(r"\s+", " ", regex=True)
    return worst[["error", "benchmark", "variant", "label", "score", "route", "text"]]
