"""Scoring systems: the cache, what fails, thresholds, files of prompts and the result files, on small frames."""

from __future__ import annotations

import dataclasses
import json
import time

import numpy as np
import pandas as pd
import pytest

from guardlib.evaluation import metrics
from guardlib.evaluation.baselines import BASELINES, Baseline
from guardlib.evaluation.benchmarks import paired_rows
from guardlib.evaluation.hub_guards import GuardAbsent
from guardlib.evaluation.results import headline_figures, write_results
from guardlib.evaluation.scores import score_rows
from guardlib.evaluation.systems import (
    Answers,
    Board,
    Scorer,
    SystemsFailed,
    all_scorers,
    baseline_scorer,
    check_all_ran,
    check_ran,
    describe_systems,
    guard_scorer,
    hub_scorer,
    score_all,
    score_file,
    thresholds_at_fpr,
    validation_rows,
)
from guardlib.labels import SCORE_COLUMNS
from guardlib.settings import get_profile
from tests.evaluation.rows import benchmark_rows, probabilities
from tests.tiny_guard import build


class Half:
    """Says 0.5 to everything and counts the texts it was asked."""

    def __init__(self, name: str = "half", key: str = "k") -> None:
        self.asked = 0
        self.scorer = Scorer(name, (name,), key, self.answer, "a coin")

    def answer(self, texts):
        self.asked += len(texts)
        return {self.scorer.name: Answers(np.full((len(texts), 2), 0.5))}


def _broken(name: str, answer) -> Scorer:
    return Scorer(name, (name,), "k", lambda texts: {name: Answers(answer(texts))}, "broken")


def test_fitting_is_no_part_of_the_time_of_a_text(tmp_path):
    fitted = []
    answer = Half().answer

    def prepare() -> None:
        time.sleep(0.2)
        fitted.append(True)

    slow = Scorer("half", ("half",), "k", answer, "a coin that is minted first", prepare)
    rows = score_all([slow], benchmark_rows(4), tmp_path).rows
    assert fitted == [True]
    assert rows["seconds"].sum() < 0.2


def test_what_was_answered_before_a_crash_is_kept(tmp_path):
    coin = Half()

    def answer(texts):
        if coin.asked == 4:
            raise KeyboardInterrupt
        return coin.answer(texts)

    asked = benchmark_rows(10)
    with pytest.raises(KeyboardInterrupt):
        score_all([dataclasses.replace(coin.scorer, answer=answer, at_once=2)], asked, tmp_path)
    board = score_all([dataclasses.replace(coin.scorer, at_once=4)], asked, tmp_path)
    assert board.computed == 6
    assert coin.asked == 10
    assert len(board.rows) == 10


def test_guardrail_gives_three_systems_over_the_same_rows():
    tiny, asked = build(), benchmark_rows(12)
    rows = score_all([guard_scorer(tiny.guardrail, tiny.trained, tiny.profile)], asked).rows
    assert list(rows.columns) == list(SCORE_COLUMNS)
    assert rows.groupby("system").size().to_dict() == {"guard": 12, "fast": 12, "deep": 12}
    assert set(rows.loc[rows["system"] == "deep", "route"]) == {"deep"}
    assert set(rows.loc[rows["system"] == "fast", "route"]) == {"fast"}


def test_a_second_run_computes_nothing_and_gives_the_same_rows(tmp_path):
    tiny, asked = build(), benchmark_rows(12)
    scorer = guard_scorer(tiny.guardrail, tiny.trained, tiny.profile)
    first = score_all([scorer], asked, tmp_path)
    second = score_all([scorer], asked, tmp_path)
    assert (first.computed, second.computed) == (12, 0)
    pd.testing.assert_frame_equal(first.rows, second.rows)


def test_only_new_texts_are_computed_and_equal_ones_once(tmp_path):
    half, asked = Half(), benchmark_rows(10)
    twice = pd.concat([asked, asked.assign(benchmark="again")], ignore_index=True)
    assert len(score_all([half.scorer], twice, tmp_path).rows) == 20
    assert half.asked == 10
    more = pd.concat([asked, benchmark_rows(3, benchmark="more").assign(text=["a", "b", "text 1"])])
    score_all([half.scorer], more, tmp_path)
    assert half.asked == 12
    other = Half(key="another model")
    score_all([other.scorer], asked, tmp_path)
    assert other.asked == 10
    assert len(list(tmp_path.iterdir())) == 1, "what the older model answered is dropped"


def test_a_cache_that_was_cut_short_is_computed_again(tmp_path):
    half, asked = Half(), benchmark_rows(4)
    score_all([half.scorer], asked, tmp_path)
    next(tmp_path.iterdir()).write_bytes(b"PAR1 cut short")
    assert score_all([half.scorer], asked, tmp_path).computed == 4


def test_a_key_follows_all_that_an_answer_depends_on(tmp_path):
    tiny = build()
    rows = pd.DataFrame({"text": ["a", "b"], "label": [0, 1], "source": "s", "family": "f", "lang": "en", "group": 0})
    turned, profile = rows.assign(label=[1, 0]), tiny.profile
    asked = [
        ("rules", rows, rows, profile),
        ("tfidf", rows, rows, profile),
        ("rules", turned, rows, profile),
        ("rules", rows, turned, profile),
        ("rules", rows, rows, dataclasses.replace(profile, seed=1)),
        ("rules", rows, rows, dataclasses.replace(profile, model=dataclasses.replace(profile.model, max_length=64))),
    ]
    keys = [baseline_scorer(*given).key for given in asked]
    assert len(set(keys)) == len(keys)
    assert baseline_scorer("rules", rows.copy(), rows, profile).key == keys[0]
    trained, untrained = (guard_scorer(tiny.guardrail, folder, profile).key for folder in (tiny.trained, tmp_path))
    assert trained != untrained  # the files count


def test_systems_that_do_not_exist_are_named():
    tiny = build()
    rows = pd.DataFrame({"text": ["a", "b"], "label": [0, 1], "source": "s", "family": "f", "lang": "en", "group": 0})
    with pytest.raises(ValueError, match="baseline 'magic' does not exist"):
        baseline_scorer("magic", rows, rows, tiny.profile)
    with pytest.raises(ValueError, match="hub guard 'magic' does not exist; expected one of protectai_v2"):
        hub_scorer("magic", tiny.profile)


def test_all_systems_are_those_of_the_settings():
    tiny = build()
    rows = pd.DataFrame({"text": ["a", "b"], "label": [0, 1], "source": "s", "family": "f", "lang": "en", "group": 0})
    named = [name for s in all_scorers(tiny.guardrail, tiny.trained, rows, rows, tiny.profile) for name in s.systems]
    assert named == ["guard", "fast", "deep", "rules", "tfidf", "frozen_backbone", "finetuned_backbone"]


def test_a_system_that_fails_is_named_and_the_others_go_on(tmp_path):
    def raises(texts):
        raise RuntimeError("out of\nmemory")

    def absent(texts):
        raise GuardAbsent("some/guard: no network")

    wrong = {
        "nan": lambda texts: np.full((len(texts), 2), np.nan),
        "short": lambda texts: np.full((len(texts) - 1, 2), 0.5),
        "raises": raises,
        "absent": absent,
    }
    scorers = [*(_broken(name, answer) for name, answer in wrong.items()), Half().scorer]
    board = score_all(scorers, benchmark_rows(6), tmp_path)
    assert set(board.rows["system"]) == {"half"}
    assert set(board.failed) == {"nan", "short", "raises"}
    assert "gave NaN or infinity for 6 of 6" in board.failed["nan"]
    assert "gave 5 row(s) of probabilities for 6" in board.failed["short"]
    assert board.failed["raises"] == "RuntimeError: out of memory"
    assert board.absent == {"absent": "some/guard: no network"}
    states = describe_systems(scorers, board).set_index("system")["state"]
    assert states.to_dict() == {
        "nan": "failed",
        "short": "failed",
        "raises": "failed",
        "absent": "not run",
        "half": "ran",
    }
    status = pd.DataFrame([{"benchmark": "b", "failed": True, "why_not": "no label"}])
    with pytest.raises(SystemsFailed, match=r"4 failed, .* first: benchmark b: no label"):
        check_all_ran(board, status)
    check_all_ran(Board(board.rows, absent=board.absent), status.assign(failed=False))


def test_a_baseline_that_raises_while_it_is_fitted_fails_alone(monkeypatch):
    def fit(given):
        raise ValueError("no such luck")

    monkeypatch.setitem(BASELINES, "unlucky", Baseline("unlucky", lambda profile: "", fit))
    rows = pd.DataFrame({"text": ["a", "b"], "label": [0, 1], "source": "s", "family": "f", "lang": "en", "group": 0})
    board = score_all([baseline_scorer("unlucky", rows, rows, build().profile)], benchmark_rows(3))
    assert board.failed == {"unlucky": "no such luck"}
    assert board.rows.empty


def test_validation_rows_join_what_training_wrote_with_baselines():
    guard = pd.DataFrame({"p_0": [0.9, 0.2], "p_fast_0": [0.8, 0.3], "p_deep_0": [0.7, 0.1], "label": [0, 1]})
    validation = pd.DataFrame(
        {"text": ["a", "b"], "label": [0, 1], "source": "s", "family": "f", "group": 0, "lang": "en", "split": "v"}
    )
    board = Board(pd.DataFrame())
    scorers = [Half("guard").scorer, Half().scorer, _broken("bad", lambda texts: 1 / 0)]
    rows = validation_rows(guard, scorers, validation, board)
    assert board.failed == {"bad": "on validation texts: ZeroDivisionError: division by zero"}
    assert rows[rows["system"] == "guard"]["score"].tolist() == pytest.approx([0.1, 0.8])
    assert set(rows["system"]) == {"guard", "fast", "deep", "half"}
    limits = thresholds_at_fpr(rows, 0.0)
    assert 0.1 < limits["guard"] <= 0.8  # above the benign row, not above the attack


def test_nothing_follows_where_the_guard_itself_failed():
    board = Board(pd.DataFrame(), failed={"tfidf": "no such luck"})
    check_ran(board, "guard")
    board.failed["guard"] = "NaN for 3 of 9 examples"
    with pytest.raises(SystemsFailed, match="guard failed: NaN for 3 of 9 examples"):
        check_ran(board, "guard")


def test_how_a_run_is_taken_up_again_costs_no_answers():
    rows = pd.DataFrame({"text": ["a", "b"], "label": [0, 1], "source": "s", "family": "f", "lang": "en", "group": 0})
    profiles = [get_profile("smoke", {name: value}) for name, value in (("seed", 0), ("training.resume", False))]
    keys = {baseline_scorer("rules", rows, rows, profile).key for profile in profiles}
    assert len(keys) == 1
    assert baseline_scorer("rules", rows, rows, get_profile("smoke", {"training.epochs": 9})).key not in keys


def test_a_file_of_prompts_is_scored_in_one_call(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_text("first prompt\n\nsecond prompt\nfirst prompt\n")
    table = score_file(path, [Half("one").scorer, Half("two").scorer])
    assert table["text"].tolist() == ["first prompt", "second prompt", "first prompt"]
    assert table[["one", "two"]].to_numpy().tolist() == [[0.5, 0.5]] * 3
    with pytest.raises(SystemsFailed, match="system bad: ZeroDivisionError"):
        score_file(path, [_broken("bad", lambda texts: 1 / 0)])


def test_results_are_written_and_read_back(tmp_path):
    asked = benchmark_rows(60, harmful=4)
    rows = score_rows(asked, "guard", probabilities(asked["label"].to_numpy()))
    summary = metrics.headline(rows)
    status = pd.DataFrame(
        [
            {"benchmark": "made", "ran": True, "failed": False, "why_not": ""},
            {"benchmark": "gone", "ran": False, "failed": False, "why_not": "on request"},
            {"benchmark": "bad", "ran": False, "failed": True, "why_not": "no label"},
        ]
    )
    board = Board(rows, failed={"nan": "gave NaN"}, absent={"hub": "no network"})
    write_results(tmp_path, summary, summary, {"variants": metrics.rates(rows)}, {"guard": 0.5}, status, board)
    table = pd.read_csv(tmp_path / "benchmark_summary.csv")
    assert set(table["threshold"].dropna()) == {"default", "target_fpr"}
    apart = table[table["state"] != "ran"]
    assert apart["why_not"].tolist() == ["on request", "no label", "gave NaN", "no network"]
    assert apart["state"].tolist() == ["not run", "failed", "failed", "not run"]
    results = json.loads((tmp_path / "benchmark_results.json").read_text())
    assert results["thresholds"] == {"guard": 0.5}
    assert results["summary"][0]["benchmark"] == "made"
    assert results["failed_systems"] == {"nan": "gave NaN"}
    assert headline_figures(summary) == {"made_accuracy": round(float(summary["accuracy"].iloc[0]), 4)}


def test_paired_rows_are_those_of_transforms():
    rows = pd.DataFrame({"benchmark": ["flipattack", "deepset_test", "transforms", "hidden_injections", "notinject"]})
    assert paired_rows(rows)["benchmark"].tolist() == ["flipattack", "transforms", "hidden_injections"]
