from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from guardlib.evaluation.timings import length_bucket, percentiles


def test_percentiles_and_ratio():
    rows = pd.DataFrame(
        {
            "system": ["guard"] * 101 + ["BERT-6"] * 101,
            "tokens": [10] * 202,
            "seconds": [*np.arange(101) / 1000, *np.arange(101) / 250],
        }
    )
    table = percentiles(rows, "BERT-6").set_index(["system", "tokens"])
    for bucket in ("1–16", "all"):
        row = table.loc[("guard", bucket)]
        assert (row["n"], row["p50_ms"], row["p95_ms"], row["p99_ms"]) == pytest.approx((101, 50, 95, 99))
        assert row["speed_up"] == pytest.approx(4)
        assert table.loc[("BERT-6", bucket), "speed_up"] == 1
    assert percentiles(rows)["speed_up"].isna().all()


def test_buckets_are_in_order_and_hold_every_length():
    tokens = pd.Series([600, 0, 1, 16, 17, 512, 513])
    assert length_bucket(tokens).tolist() == ["> 512", "1–16", "1–16", "1–16", "17–32", "257–512", "> 512"]
    rows = pd.DataFrame({"system": "guard", "tokens": tokens, "seconds": 0.001})
    assert percentiles(rows)["tokens"].tolist() == ["1–16", "17–32", "257–512", "> 512", "all"]
