from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardlib.evaluation.scores import ScoreError, check_rows, decide, read_scores, score_rows, write_scores
from guardlib.labels import SCORE_COLUMNS

from .rows import benchmark_rows, probabilities, scored


def test_score_rows_by_hand():
    asked = benchmark_rows(4)
    given_probabilities = np.array(
        [[0.9, 0.05, 0.03, 0.02], [0.4, 0.1, 0.3, 0.2], [0.5, 0.1, 0.1, 0.3], [0.501, 0.4, 0.05, 0.049]]
    )
    rows = score_rows(asked, "guard", given_probabilities, 0.5, np.array(["fast", "deep", "deep", "fast"]), 0.002)
    assert tuple(rows.columns) == SCORE_COLUMNS
    assert rows["score"].tolist() == pytest.approx([0.1, 0.6, 0.5, 0.499])
    # Row 2 sits on the threshold and is flagged, though benign is its likeliest class.
    assert rows["predicted"].tolist() == [0, 2, 3, 0]
    assert rows["route"].tolist() == ["fast", "deep", "deep", "fast"]
    assert (rows["seconds"] == 0.002).all()
    assert rows["example_id"].tolist() == asked["example_id"].tolist()


@given(st.integers(0, 2**31), st.floats(0, 1))
def test_flagged_is_predicted_above_zero(seed, threshold):
    chances = probabilities(np.random.default_rng(seed).integers(0, 4, 50), seed)
    score, predicted = decide(chances, threshold)
    assert ((predicted > 0) == (score >= threshold)).all()
    flagged = predicted > 0
    assert (predicted[flagged] == 1 + chances[flagged, 1:].argmax(1)).all()


def test_two_classes_are_enough():
    rows = score_rows(benchmark_rows(2), "rules", np.array([[0.2, 0.8], [0.8, 0.2]]))
    assert rows["predicted"].tolist() == [1, 0]
    assert rows["seconds"].isna().all()
    assert (rows["route"] == "").all()


@pytest.mark.parametrize(
    ("chances", "message"),
    [
        (np.full((3, 4), 0.25), r"'sys' gave 3 row\(s\) of probabilities for 4"),
        (np.full((4, 3), 1 / 3), r"'sys' gave an array of shape \(4, 3\)"),
        (np.full(4, 0.5), r"shape \(4,\)"),
        (
            np.array([[0.25] * 4, [np.nan] * 4, [0.25] * 4, [0.25] * 4]),
            "'sys' gave NaN or infinity for 1 of 4 .* row 1",
        ),
        (np.full((4, 4), 0.5), "summing to 1"),
        (np.array([[1.5, -0.5, 0, 0]] * 4), "summing to 1"),
    ],
)
def test_bad_probabilities_are_named(chances, message):
    with pytest.raises(ScoreError, match=message):
        score_rows(benchmark_rows(4), "sys", chances)


def test_bad_rows_are_named():
    asked, good = benchmark_rows(4), np.full((4, 4), 0.25)
    with pytest.raises(ScoreError, match=r"lack column\(s\) variant"):
        score_rows(asked.drop(columns="variant"), "sys", good)
    with pytest.raises(ScoreError, match=r"1 score row\(s\) appear twice"):
        score_rows(pd.concat([asked, asked.iloc[:1]]), "sys", np.full((5, 4), 0.25))
    with pytest.raises(ScoreError, match=r"2 value\(s\) of route"):
        score_rows(asked, "sys", good, route=np.array(["fast", "deep"]))
    with pytest.raises(ScoreError, match=r"label .*7.* is not a class"):
        check_rows(scored().assign(label=7))
    with pytest.raises(ScoreError, match=r"score of .* is nan"):
        check_rows(scored().assign(score=np.nan))
    with pytest.raises(ScoreError, match=r"lack column\(s\) score"):
        check_rows(scored().drop(columns="score"))


def test_rows_come_back_from_disk(tmp_path):
    rows = scored()
    path = write_scores(rows, tmp_path / "scores.parquet")
    pd.testing.assert_frame_equal(read_scores(path), rows)
    assert [file.name for file in tmp_path.iterdir()] == ["scores.parquet"]


def test_bad_files_are_named(tmp_path):
    with pytest.raises(ScoreError, match=r"does not exist; run: python run_all\.py --from 05"):
        read_scores(tmp_path / "scores.parquet")
    (tmp_path / "scores.parquet").write_bytes(b"PAR1 cut short")
    with pytest.raises(ScoreError, match="cannot be read"):
        read_scores(tmp_path / "scores.parquet")
    with pytest.raises(ScoreError, match="appear twice"):
        write_scores(pd.concat([scored(), scored()]), tmp_path / "other.parquet")
    assert not (tmp_path / "other.parquet").exists()
