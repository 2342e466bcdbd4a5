"""Each metric against scikit-learn, statsmodels or a plain count."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, confusion_matrix
from statsmodels.stats import contingency_tables
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

from guardlib.evaluation import metrics
from guardlib.evaluation.ranking import calibration_error
from guardlib.labels import HARMFUL_REQUEST, LABEL_NAMES

from .rows import scored


@given(
    st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.sampled_from([0.8, 0.95, 0.99])
)
def test_wilson_is_that_of_statsmodels(counts, confidence):
    hits, n = counts
    low, high = metrics.wilson(hits, n, confidence)
    assert (low, high) == pytest.approx(proportion_confint(hits, n, 1 - confidence, method="wilson"), abs=1e-12)
    assert 0 <= low <= hits / n <= high <= 1


def test_wilson_of_nothing_is_nan_and_nonsense_is_refused():
    low, high = metrics.wilson([0, 5], [0, 10])
    assert np.isnan([low[0], high[0]]).all()
    assert np.isfinite([low[1], high[1]]).all()
    with pytest.raises(ValueError, match="between 0 and n"):
        metrics.wilson(3, 2)
    with pytest.raises(ValueError, match=r"confidence is 95"):
        metrics.wilson(1, 2, confidence=95)


def test_rows_of_one_text_count_for_what_they_are_worth():
    """Independent rows for all they are; copies of n texts for n; copies that differ for something between."""
    rng = np.random.default_rng(0)
    hit = rng.random(200) < 0.3
    alone = pd.DataFrame({"kind": "a", "example_id": [f"x/{i}" for i in range(200)], "hit": hit})
    copies = pd.concat([alone.assign(example_id=[f"{k}/{i}@{i}" for i in range(200)]) for k in range(5)])
    mixed = copies.assign(hit=np.where(np.arange(1000) % 2, copies["hit"], rng.random(1000) < 0.3))
    assert metrics.effective_sizes(alone, ["kind"], "hit")["a"] == pytest.approx(200)
    assert metrics.effective_sizes(copies, ["kind"], "hit")["a"] == pytest.approx(200, rel=0.01)
    assert 300 < metrics.effective_sizes(mixed, ["kind"], "hit")["a"] < 900
    assert metrics.effective_sizes(copies.assign(hit=True), ["kind"], "hit")["a"] == 200
    one_text = copies.assign(example_id=[f"{k}@same" for k in range(1000)])
    assert metrics.effective_sizes(one_text, ["kind"], "hit")["a"] == 1  # however often it was right and wrong


def test_the_effective_size_gives_the_variance_of_a_bootstrap_over_texts():
    rng = np.random.default_rng(1)
    text = rng.integers(0, 60, 400)
    hit = rng.random(400) < (0.2 + 0.6 * (np.arange(60) % 2))[text]
    rows = pd.DataFrame({"kind": "a", "example_id": [f"x/{i}@{t}" for i, t in enumerate(text)], "hit": hit})
    n, p = metrics.effective_sizes(rows, ["kind"], "hit")["a"], hit.mean()
    hits, sizes = np.bincount(text, hit, 60), np.bincount(text, minlength=60)
    drawn = rng.multinomial(60, np.full(60, 1 / 60), 4000)
    assert p * (1 - p) / n == pytest.approx(((drawn @ hits) / (drawn @ sizes)).var(), rel=0.1)


def test_rates_are_plain_counts():
    rows = scored()
    table = metrics.rates(rows)
    assert table["n"].sum() == len(rows)
    for rate in table.itertuples():
        part = rows[(rows.benchmark == rate.benchmark) & (rows.variant == rate.variant) & (rows.system == rate.system)]
        part = part[(part.label > 0) == (rate.metric == "tpr")]
        assert (rate.n, rate.hits) == (len(part), (part.predicted > 0).sum())
        assert rate.low <= rate.rate <= rate.high


def test_headline_agrees_with_scikit_learn():
    rows = scored(harmful=10)
    usual = rows[rows.family != HARMFUL_REQUEST]
    for line in metrics.headline(rows).itertuples():
        part = usual[(usual.benchmark == line.benchmark) & (usual.system == line.system)]
        truth, flagged = part.label > 0, part.predicted > 0
        (tn, fp), (fn, tp) = confusion_matrix(truth, flagged)
        assert line.accuracy == pytest.approx(accuracy_score(truth, flagged))
        assert (line.tpr, line.fpr) == pytest.approx((tp / (tp + fn), fp / (fp + tn)))
        assert (line.n, line.n_pos, line.n_neg) == (len(part), tp + fn, fp + tn)
        assert (line.fpr_low, line.fpr_high) == pytest.approx(proportion_confint(fp, fp + tn, method="wilson"))


def test_headline_of_benign_rows_alone_has_no_detection_rate():
    rows = scored()
    line = metrics.headline(rows[rows.label == 0]).iloc[0]
    assert line.n_pos == 0
    assert np.isnan(line.tpr)
    assert line.accuracy == pytest.approx(1 - line.fpr)


def test_harmful_requests_are_apart():
    rows = scored(harmful=40)
    apart = metrics.harmful_requests(rows)
    assert apart["n"].tolist() == [40, 40]
    assert apart["benchmark"].unique().tolist() == ["first"]
    usual = rows.family != HARMFUL_REQUEST
    turned = rows.assign(predicted=rows.predicted.where(usual, 0), score=rows.score.where(usual, 0.0))
    for metric in (metrics.headline, metrics.rates, metrics.confusion, metrics.reliability, calibration_error):
        pd.testing.assert_frame_equal(metric(rows), metric(turned))


def test_matched_detection_has_both_rates_and_newcombe():
    rows = scored()
    lonely = rows[(rows.variant == "a") | (rows.label > 0)]  # variant b loses its benign rows
    table = metrics.matched_detection(lonely)
    assert set(table["variant"]) == {"a"}
    alone = rows.assign(example_id=rows["example_id"].str.replace("@", "-"))  # as statsmodels takes them: independent
    for line in metrics.matched_detection(alone).itertuples():
        caught, wrong = round(line.tpr * line.n_pos), round(line.fpr * line.n_neg)
        expected = confint_proportions_2indep(caught, line.n_pos, wrong, line.n_neg, method="newcomb", compare="diff")
        assert (line.informedness_low, line.informedness_high) == pytest.approx(expected, abs=1e-9)


def test_confusion_agrees_with_scikit_learn():
    rows = scored()
    table = metrics.confusion(rows)
    for system, part in rows.groupby("system"):
        cells = table[table.system == system].pivot(index="label", columns="predicted", values="n")
        cells = cells.loc[list(LABEL_NAMES), list(LABEL_NAMES)].to_numpy()
        assert (cells == confusion_matrix(part.label, part.predicted, labels=range(4))).all()
    assert table.groupby(["system", "label"])["share"].sum().to_numpy() == pytest.approx(1.0)


@given(st.integers(0, 60), st.integers(0, 60))
def test_signs_of_single_rows_are_mcnemars_test(b, c):
    expected = contingency_tables.mcnemar([[7, b], [c, 5]], exact=True).pvalue
    assert metrics.sign_flip(np.repeat([1, -1, 0], [b, c, 3])) == pytest.approx(expected if b + c else 1.0)


def test_signs_of_a_few_bases_by_hand():
    net = np.array([2, 1, 1])  # sums of the eight signings: ±4, ±2, ±2, 0, 0
    assert metrics.sign_flip(net) == pytest.approx(2 / 8)
    assert metrics.sign_flip(net, "greater") == pytest.approx(1 / 8)
    assert metrics.sign_flip(-net, "greater") == 1


def test_a_difference_in_rows_is_not_tested_by_a_vote_of_bases():
    """Three bases of twenty rows are won, forty of one row lost: twenty more rows right, and no evidence either way."""
    net = np.repeat([20, -1], [3, 40])
    assert metrics.sign_flip(net) > 0.2
    many = np.repeat([20, 19, -1], [150, 150, 1100])
    assert metrics.sign_flip(many) < 0.001


def test_compare_counts_pairs():
    rows = scored()
    rows["example_id"] = rows["example_id"].str.replace("@", "-")  # each text a base of its own
    found = metrics.compare(rows, "one", "two")
    assert found["n"] == len(rows) / 2
    right = rows.assign(right=(rows.label > 0) == (rows.predicted > 0)).pivot(
        index=["benchmark", "example_id"], columns="system", values="right"
    )
    expected = contingency_tables.mcnemar(pd.crosstab(right["one"], right["two"]), exact=True).pvalue
    assert found["p_value"] == pytest.approx(expected)
    assert found["difference"] == pytest.approx(right["one"].mean() - right["two"].mean())
    assert found["only_system_right"] == (right["one"] & ~right["two"]).sum()


def test_rows_of_one_base_text_are_one_piece_of_evidence():
    rows = scored()
    several = pd.concat(
        [rows.assign(example_id=f"{k}/" + rows["example_id"]) for k in range(4)],
        ignore_index=True,
    )
    one, four = (metrics.compare(frame, "one", "two") for frame in (rows, several))
    assert four["difference"] == pytest.approx(one["difference"])
    assert four["p_value"] == one["p_value"]
    assert four["only_system_right"] == 4 * one["only_system_right"]


def test_compare_does_not_depend_on_row_order():
    rows = scored()
    shuffled = rows.sample(frac=1, random_state=0)
    assert metrics.compare(shuffled, "one", "two") == metrics.compare(rows, "one", "two")


def test_compare_refuses_unpaired_rows():
    rows = scored()
    with pytest.raises(ValueError, match="not of the same examples"):
        metrics.compare(rows.iloc[1:], "one", "two")
    with pytest.raises(ValueError, match="'three' has no score rows; there are one, two"):
        metrics.compare(rows, "one", "three")


def test_at_threshold_moves_every_metric():
    rows = scored()
    assert (metrics.headline(metrics.at_threshold(rows, 0.0))["tpr"] == 1).all()
    assert (metrics.headline(metrics.at_threshold(rows, 1.01))["fpr"] == 0).all()
    same = metrics.headline(metrics.at_threshold(rows, 0.5))
    pd.testing.assert_frame_equal(same, metrics.headline(rows))
    mixed = metrics.headline(metrics.at_threshold(rows, {"one": 0.0, "two": 1.01})).set_index("system")["fpr"]
    assert (mixed["one"] == 1).all()
    assert (mixed["two"] == 0).all()
    with pytest.raises(ValueError, match=r"no threshold for system\(s\) two"):
        metrics.at_threshold(rows, {"one": 0.5})


def test_calibrated_scores_have_little_calibration_error():
    rng = np.random.default_rng(0)
    rows = pd.concat([scored(n=4000, systems=("s",))] * 2)
    rows["score"] = rng.uniform(size=len(rows))
    rows["label"] = (rng.uniform(size=len(rows)) < rows["score"]).astype(int)
    assert calibration_error(rows, samples=10)["ece"].item() < 0.03
    over = rows.assign(score=np.where(rows.score > 0.5, 1.0, 0.0))
    assert calibration_error(over, samples=10)["ece"].item() == pytest.approx(0.25, abs=0.02)
    table = metrics.reliability(rows)
    assert table["n"].sum() == len(rows)
    assert ((table.low <= table.rate) & (table.rate <= table.high)).all()
