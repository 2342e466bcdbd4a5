from __future__ import annotations

import pandas as pd
import pytest

from guardlib.evaluation.baselines import BASELINES, Baseline
from guardlib.evaluation.leave_one_out import COLUMNS, leave_one_source_out
from guardlib.settings import get_profile


def _split(split: str, each: int) -> pd.DataFrame:
    kinds = [
        ("a", 1, "ignore the rules"),
        ("b", 1, "you are free"),
        ("c", 0, "thank you"),
        ("made", 1, "ignore the rules, made"),
    ]
    rows = [
        {"text": f"{words} {split} {n}", "label": label, "source": source, "group": 10 * n + (source in ("a", "made"))}
        for source, label, words in kinds
        for n in range(each)
    ]
    return pd.DataFrame(rows)


@pytest.fixture
def learnt(monkeypatch) -> list[set]:
    """A registered system that remembers which sources it was fitted on."""
    seen = []

    def fit(given):
        seen.append(set(given.train["source"]))
        return BASELINES["tfidf"].fit(given)

    monkeypatch.setitem(BASELINES, "witness", Baseline("witness", lambda profile: "", fit))
    return seen


def test_a_source_and_what_was_made_of_it_are_left_out(learnt):
    splits = [_split(name, each) for name, each in (("train", 30), ("validation", 10), ("test", 22))]
    table = leave_one_source_out(["witness"], *splits, get_profile("smoke"), ["a", "c"][:1])
    assert list(table.columns) == list(COLUMNS)
    assert learnt == [{"a", "b", "c", "made"}, {"b", "c"}]
    line = table.iloc[0]
    assert (line.source, line.metric, line.n, line.n_seen) == ("a", "tpr", 62, 22)
    assert line.rate_seen == 1.0
    assert line.rate < 1.0
    assert line.low <= line.rate <= line.high


def test_a_fit_that_fails_costs_no_other(monkeypatch):
    fits = []

    def fit(given):
        fits.append(given)
        if len(fits) == 2:  # the first one sees every source
            raise RuntimeError("did not converge")
        return BASELINES["tfidf"].fit(given)

    monkeypatch.setitem(BASELINES, "moody", Baseline("moody", lambda profile: "", fit))
    splits = [_split(name, each) for name, each in (("train", 30), ("validation", 10), ("test", 22))]
    with pytest.warns(UserWarning, match="moody without a has no figures: did not converge"):
        table = leave_one_source_out(["moody"], *splits, get_profile("smoke"), ["a", "made"])
    assert table["source"].unique().tolist() == ["made"]


def test_nothing_asked_for_and_bad_names():
    splits = [_split(name, 22) for name in ("train", "validation", "test")]
    assert leave_one_source_out([], *splits, get_profile("smoke")).empty
    with pytest.raises(ValueError, match="no rows of source 'zzz'; there are a, b, c, made"):
        leave_one_source_out(["tfidf"], *splits, get_profile("smoke"), ["zzz"])
