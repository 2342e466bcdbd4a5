"""Each breakdown against a plain count."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from statsmodels.stats.proportion import proportion_confint

from guardlib.evaluation import breakdowns
from guardlib.evaluation.benchmarks import BENCHMARKS
from guardlib.evaluation.scores import score_rows
from guardlib.evaluation.suites.robustness import AS_WRITTEN

from .rows import benchmark_rows, probabilities


def _scored(asked: pd.DataFrame, systems=("one", "two")) -> pd.DataFrame:
    labels = asked["label"].to_numpy()
    return pd.concat(
        [score_rows(asked, name, probabilities(labels, k, 1.0)) for k, name in enumerate(systems)], ignore_index=True
    )


def test_over_defence_counts_benign_rows_of_each_kind():
    kinds = ("role-play", "ordinary")
    asked = [benchmark_rows(80, 1, "flipattack"), benchmark_rows(80, 2, "over_defence", kinds)]
    rows = _scored(pd.concat([*asked, benchmark_rows(40, 3, "transforms"), benchmark_rows(40, 4, "pint_proxy")]))
    table = breakdowns.over_defence(rows)
    assert set(table["kind"]) == {"role-play", "ordinary", "encoded"}
    assert table["kind"].iloc[-1] == "encoded"
    benign = rows[(rows.label == 0) & (rows.system == "one")]
    expected = benign[benign.benchmark.isin(["flipattack", "transforms"])]
    line = table[(table.kind == "encoded") & (table.system == "one")].iloc[0]
    assert (line.n, line.hits) == (len(expected), (expected.predicted > 0).sum())
    assert (line.low, line.high) == pytest.approx(proportion_confint(line.hits, line.n, method="wilson"))


def test_every_kind_of_benign_text_has_a_row():
    from guardlib.evaluation.suites import over_defence as suite

    said = {item.over_defence for item in BENCHMARKS.values()}
    assert {"variant", "encoded"} <= said
    assert {suite.ORDINARY, suite.TRIGGER, suite.ROLE_PLAY, suite.SECURITY, suite.FOREIGN} == set(suite._SOURCES)


def test_threshold_transfer_is_over_defence_at_another_threshold():
    rows = _scored(benchmark_rows(200, 1, "notinject"))
    table = breakdowns.threshold_transfer(rows, {"one": 0.9, "two": 0.0}, 0.01)
    two = table[table["system"] == "two"].iloc[0]
    assert (two.rate, two.holds, two.threshold, two.target) == (1.0, False, 0.0, 0.01)
    one = rows[(rows.system == "one") & (rows.label == 0)]
    assert table[table["system"] == "one"]["rate"].item() == pytest.approx((one["score"] >= 0.9).mean())


def test_attack_success_is_what_is_not_caught():
    rows = _scored(benchmark_rows(100, 1, "jbb_artifacts", ("GCG", "PAIR")))
    table = breakdowns.attack_success(rows)
    line = table[(table.variant == "GCG") & (table.system == "one")].iloc[0]
    part = rows[(rows.variant == "GCG") & (rows.system == "one") & (rows.label > 0)]
    assert (line.n, line.missed) == (len(part), (part.predicted == 0).sum())
    assert line.rate == pytest.approx(line.missed / line.n)
    assert line.low <= line.rate <= line.high


def test_a_benchmark_that_did_not_run_gives_an_empty_table():
    rows = _scored(benchmark_rows(20, 1, "notinject"))
    assert breakdowns.attack_success(rows).empty
    assert breakdowns.flip_rates(rows).empty
    assert breakdowns.over_defence(rows[rows["label"] > 0]).empty


def test_flips_are_counted_against_the_text_as_written():
    columns = {"benchmark": "robustness", "system": "s", "family": "f", "score": 0.5, "route": "", "seconds": 0.0}
    said = [
        ("a", AS_WRITTEN, 1, 1), ("a", "upper case", 1, 0), ("a", "lower case", 1, 1),
        ("b", AS_WRITTEN, 0, 0), ("b", "upper case", 0, 2),
        ("c", "upper case", 1, 1),  # without its original: not counted
    ]  # fmt: skip
    rows = pd.DataFrame(said, columns=["text", "variant", "label", "predicted"]).assign(**columns)
    rows["example_id"] = [f"robustness/{n}@{text}" for n, text in enumerate(rows["text"])]
    table = breakdowns.flip_rates(rows).set_index("variant")
    assert table.loc["upper case", ["n", "flips", "lost", "raised"]].tolist() == [2, 2, 1, 1]
    assert table.loc["lower case", ["n", "flips", "lost", "raised"]].tolist() == [1, 0, 0, 0]


def test_pint_has_two_formulas():
    """Four chats (one flagged), one document (flagged), two injections (one caught): counted by hand."""
    said = [("chat", 0, 0)] * 3 + [("chat", 0, 1), ("documents", 0, 1), ("injection", 1, 1), ("injection", 1, 0)]
    rows = pd.DataFrame(said, columns=["variant", "label", "predicted"]).assign(
        benchmark="pint", system="s", family="f", score=0.5, route="", seconds=0.0
    )
    rows["example_id"] = [f"pint/{n}" for n in range(len(rows))]
    table = breakdowns.pint_scores(rows, samples=200).set_index("formula")
    assert table.loc["readme", "value"] == pytest.approx(np.mean([np.mean([3 / 4, 0 / 1]), 1 / 2]))
    assert table.loc["notebook", "value"] == pytest.approx(np.mean([3 / 5, 1 / 2]))
    assert (table["low"] <= table["value"]).all()
    assert (table["value"] <= table["high"]).all()
    assert breakdowns.pint_scores(rows.assign(benchmark="other")).empty
