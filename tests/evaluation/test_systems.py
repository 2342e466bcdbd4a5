"""Scoring systems, the worst errors and the result files, on small frames."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from guardlib.evaluation import metrics
from guardlib.evaluation.benchmarks import paired_rows
from guardlib.evaluation.errors import worst_errors
from guardlib.evaluation.results import headline_figures, write_results
from guardlib.evaluation.scores import score_rows
from guardlib.evaluation.systems import score_baselines, score_guardrail, thresholds_at_fpr, validation_rows
from guardlib.labels import HARMFUL_REQUEST, SCORE_COLUMNS
from tests.evaluation.rows import benchmark_rows, probabilities
from tests.tiny_guard import build


@pytest.fixture
def scored() -> tuple[pd.DataFrame, pd.DataFrame]:
    asked = benchmark_rows(60, harmful=4)
    return asked, score_rows(asked, "guard", probabilities(asked["label"].to_numpy()))


def test_guardrail_gives_three_systems_over_the_same_rows():
    tiny, asked = build(), benchmark_rows(12)
    rows = score_guardrail(tiny.guardrail, asked, tiny.profile)
    assert list(rows.columns) == list(SCORE_COLUMNS)
    assert rows.groupby("system").size().to_dict() == {"guard": 12, "fast": 12, "deep": 12}
    assert set(rows.loc[rows["system"] == "deep", "route"]) == {"deep"}
    assert set(rows.loc[rows["system"] == "fast", "route"]) == {"fast"}


def test_validation_rows_join_what_training_wrote_with_baselines():
    guard = pd.DataFrame({"p_0": [0.9, 0.2], "p_fast_0": [0.8, 0.3], "p_deep_0": [0.7, 0.1], "label": [0, 1]})
    validation = pd.DataFrame(
        {"text": ["a", "b"], "label": [0, 1], "source": "s", "family": "f", "group": 0, "lang": "en", "split": "v"}
    )
    baselines = {"half": lambda texts: np.full((len(texts), 2), 0.5)}
    rows = validation_rows(guard, baselines, validation)
    assert rows[rows["system"] == "guard"]["score"].tolist() == pytest.approx([0.1, 0.8])
    assert set(rows["system"]) == {"guard", "fast", "deep", "half"}
    limits = thresholds_at_fpr(rows, 0.0)
    assert 0.1 < limits["guard"] <= 0.8  # above the benign row, not above the attack


def test_baselines_are_scored_on_every_row():
    asked = benchmark_rows(10)
    rows = score_baselines({"sure": lambda texts: np.tile([0.0, 1.0], (len(texts), 1))}, asked)
    assert (rows["predicted"] > 0).all()
    assert (rows["seconds"] >= 0).all()


def test_worst_errors_are_errors_and_leave_harmful_requests_out(scored):
    asked, rows = scored
    worst = worst_errors(rows, asked, each=5)
    assert len(worst) > 0
    assert set(worst["error"]) <= {"false alarm", "missed"}
    alarms = worst[worst["error"] == "false alarm"]
    assert (alarms["label"] == "benign").all()
    assert alarms["score"].is_monotonic_decreasing
    harmful = set(asked.loc[asked["family"] == HARMFUL_REQUEST, "text"])
    assert not harmful & set(worst["text"])


def test_results_are_written_and_read_back(tmp_path, scored):
    _, rows = scored
    summary = metrics.headline(rows)
    write_results(tmp_path, summary, summary, metrics.rates(rows), pd.DataFrame({"value": [1.0]}), {"guard": 0.5})
    table = pd.read_csv(tmp_path / "benchmark_summary.csv")
    assert set(table["threshold"]) == {"default", "target_fpr"}
    results = json.loads((tmp_path / "benchmark_results.json").read_text())
    assert results["thresholds"] == {"guard": 0.5}
    assert results["summary"][0]["benchmark"] == "made"
    assert headline_figures(summary) == {"made_accuracy": round(float(summary["accuracy"].iloc[0]), 4)}


def test_paired_rows_are_those_of_transforms():
    rows = pd.DataFrame({"benchmark": ["flipattack", "deepset_test", "transforms", "notinject"]})
    assert paired_rows(rows)["benchmark"].tolist() == ["flipattack", "transforms"]
