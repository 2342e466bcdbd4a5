"""AUROC, average precision and recall at a false-positive rate against scikit-learn, weights included."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score, roc_curve

from guardlib.evaluation.metrics import clusters, compare
from guardlib.evaluation.ranking import FEWEST_ALARMS, _measures, calibration_error, compare_all, ranking

from .rows import scored, scores_and_labels


def _part(scores, labels):
    return pd.DataFrame({"score": scores, "positive": labels > 0, "flagged": scores >= 0.5})


@given(scores_and_labels(), st.integers(0, 2**31))
def test_measures_are_those_of_scikit_learn(data, seed):
    scores, labels = data
    weights = np.random.default_rng(seed).integers(0, 4, len(scores)).astype(float)
    weights[:2] += 1  # both kinds are drawn
    found = _measures(_part(scores, labels), (0.0, 0.1, 0.5))(weights)
    assert found["auroc"] == pytest.approx(roc_auc_score(labels, scores, sample_weight=weights))
    expected = average_precision_score(labels, scores, sample_weight=weights)
    assert found["average_precision"] == pytest.approx(expected)
    assert found["f1"] == pytest.approx(f1_score(labels, scores >= 0.5, sample_weight=weights, zero_division=0))
    fpr, tpr, _ = roc_curve(labels, scores, sample_weight=weights, drop_intermediate=False)
    for target in (0.0, 0.1, 0.5):
        assert found[f"recall_at_fpr_{target:g}"] == pytest.approx(tpr[fpr <= target + 1e-12].max())


def test_ranking_has_every_metric_with_an_interval_around_it():
    rows = scored(n=200)
    table = ranking(rows, samples=200)
    assert set(table["benchmark"]) == {"first", "second", "all"}
    assert set(table["metric"]) == {
        "auroc", "average_precision", "recall_at_fpr_0.001", "recall_at_fpr_0.01", "recall_at_fpr_0.05", "f1",
    }  # fmt: skip
    steady = table[table["metric"].isin(["auroc", "average_precision", "f1"])]
    assert ((steady.low < steady.value) & (steady.value < steady.high)).all()
    one = table[(table.benchmark == "first") & (table.system == "one") & (table.metric == "auroc")].iloc[0]
    part = rows[(rows.benchmark == "first") & (rows.system == "one")]
    assert one.value == pytest.approx(roc_auc_score(part.label > 0, part.score))
    assert one.clusters == 100


def test_a_recall_that_hangs_on_a_text_or_two_is_not_told():
    rows = scored(n=1000, systems=("s",))
    table = ranking(rows, samples=5).set_index(["benchmark", "metric"])["value"]
    benign = int((rows[rows["benchmark"] == "first"]["label"] == 0).sum())
    assert benign * 0.01 < FEWEST_ALARMS <= benign * 0.05
    assert np.isnan(table["first", "recall_at_fpr_0.01"])
    assert table["first", "recall_at_fpr_0.05"] > 0
    assert table["first", "auroc"] > 0.5


def test_all_together_counts_a_text_once_and_each_benchmark_has_its_own():
    rows = scored(n=60, systems=("s",))
    repeated = rows.assign(benchmark="pint_proxy", example_id="again/" + rows["example_id"])
    table = ranking(pd.concat([rows, repeated]), samples=5).query("metric == 'auroc'").set_index("benchmark")
    assert set(table.index) == {"first", "second", "pint_proxy", "all"}
    alone = ranking(rows, samples=5).query("metric == 'auroc'").set_index("benchmark")
    assert table.loc["all", ["value", "n_pos"]].tolist() == alone.loc["all", ["value", "n_pos"]].tolist()


def test_same_seed_same_interval():
    rows = scored(n=60)
    pd.testing.assert_frame_equal(ranking(rows, samples=50, seed=3), ranking(rows, samples=50, seed=3))
    assert not ranking(rows, samples=50, seed=3)["low"].equals(ranking(rows, samples=50, seed=4)["low"])


def test_copies_in_a_cluster_do_not_narrow_the_interval():
    rows = scored(n=60, systems=("s",))
    rows = rows[rows.benchmark == "first"]
    copies = [rows.assign(example_id=[f"c{k}/{i}" for i in rows["example_id"]]) for k in range(16)]
    apart = [rows.assign(example_id=[f"{i}-{k}" for i in rows["example_id"]]) for k in range(16)]

    def width(frame):
        line = ranking(frame, samples=400).query("metric == 'auroc' and benchmark == 'first'").iloc[0]
        return line.high - line.low

    assert width(pd.concat(copies)) == pytest.approx(width(rows), rel=0.25)
    assert width(pd.concat(apart)) < 0.5 * width(rows)


def test_benchmarks_of_one_kind_are_left_out():
    rows = scored(n=40)
    benign = rows[(rows.benchmark == "second") | (rows.label == 0)]
    assert set(ranking(benign, samples=5)["benchmark"]) == {"second", "all"}
    assert ranking(rows[rows.label == 0], samples=5).empty


def test_cluster_is_what_follows_the_mark():
    assert clusters(pd.Series(["x/1@a", "x/2@b", "y/9@a", "plain", "other"])).tolist() == [0, 1, 0, 2, 3]


def test_comparison_with_every_system():
    rows = scored(n=200, systems=("one", "two", "three"))
    table = compare_all(rows, "two", samples=200)
    assert table.groupby("other")["metric"].apply(list).to_dict() == {
        "one": ["accuracy", "f1", "auroc"],
        "three": ["accuracy", "f1", "auroc"],
    }
    assert ((table.low < table.difference) & (table.difference < table.high)).all()
    line = table.set_index(["other", "metric"]).loc[("one", "auroc")]
    parts = {name: rows[rows.system == name] for name in ("one", "two")}
    one, two = (roc_auc_score(parts[name].label > 0, parts[name].score) for name in ("one", "two"))
    assert line.difference == pytest.approx(two - one)
    plain = compare(rows, "two", "one")
    assert table.set_index(["other", "metric"]).loc[("one", "accuracy"), "difference"] == pytest.approx(
        plain["difference"]
    )
    tested = table["metric"] == "accuracy"  # the test is of verdicts: it says nothing about a ranking
    assert table.loc[~tested, ["p_value", "p_holm"]].isna().all(axis=None)
    tests = table[tested].sort_values("p_value")
    assert plain["p_value"] in tests["p_value"].tolist()
    assert tests["p_holm"].tolist() == pytest.approx(
        [min(2 * tests["p_value"].iloc[0], 1), max(2 * tests["p_value"].iloc[0], tests["p_value"].iloc[1])]
    )


def test_a_paired_interval_is_narrower_than_two_apart():
    """Systems that err on the same rows: pairing takes what they share out of the difference."""
    rows = scored(n=150, systems=("one",))
    other = rows.assign(system="two", score=(rows.score + 0.02).clip(0, 1))
    paired = compare_all(pd.concat([rows, other]), "one", samples=200).set_index("metric").loc["auroc"]
    alone = ranking(rows, samples=200).query("metric == 'auroc' and benchmark == 'all'").iloc[0]
    assert paired.high - paired.low < 0.3 * (alone.high - alone.low)


def test_calibration_error_is_that_of_scikit_learns_bins():
    rows = scored(n=300, decimals=None).query("system == 'one'")
    table = calibration_error(rows, bins=10, samples=200)
    positive = rows["label"] > 0
    rate, mean = calibration_curve(positive, rows["score"], n_bins=10)
    sizes = np.histogram(rows["score"], np.linspace(0, 1, 11))[0]
    expected = (np.abs(rate - mean) * sizes[sizes > 0]).sum() / len(rows)
    assert table["ece"].item() == pytest.approx(expected)
    assert 0 <= table["low"].item() < table["high"].item() <= 1
    assert table["n"].item() == len(rows)


def test_interval_of_the_calibration_error_draws_clusters_not_rows():
    """Forty copies of each text, in one cluster: as wide as of the texts alone."""
    texts = scored(n=60).query("system == 'one'").reset_index(drop=True)
    texts["example_id"] = [f"text/{number}" for number in range(len(texts))]
    copies = pd.concat([texts.assign(example_id=[f"{i}.{n}@{i}" for i in range(len(texts))]) for n in range(40)])
    alone, copied = (calibration_error(rows, samples=300).iloc[0] for rows in (texts, copies))
    assert copied["clusters"] == len(texts)
    assert copied["high"] - copied["low"] == pytest.approx(alone["high"] - alone["low"], rel=0.1)
