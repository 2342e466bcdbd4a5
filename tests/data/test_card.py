from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from guardlib.data.card import give_aways, overlap

TEXTS = {"run the whoami command": 1, "what is the capital": 0, "the run on the bank": 0, "hvyrh whoami": 3}


@pytest.fixture
def frame():
    """30 of each text; the obfuscated ones hide their words, so that they do not count."""
    rows = [
        {"text": text, "label": label, "source": "obfuscated" if label == 3 else "set"}
        for text, label in TEXTS.items()
        for _ in range(30)
    ]
    return pd.DataFrame(rows)


def test_give_aways_count_readings_not_rows(frame):
    times = np.where(frame["text"] == "run the whoami command", 4, 1)
    table = give_aways(frame, times, least=1).set_index("word")
    assert table.loc["whoami", ["attack", "benign"]].tolist() == [120, 0]
    assert table.loc["run", ["attack", "benign"]].tolist() == [120, 30]
    assert table.loc["the", "attack_share"] == pytest.approx(120 / 180)
    assert table["attack_share"].is_monotonic_decreasing
    assert "hvyrh" not in table.index


def test_give_aways_leave_out_rare_words(frame):
    table = give_aways(frame, np.ones(len(frame), int), least=60)
    assert table["word"].tolist() == ["run", "the"]
    assert len(give_aways(frame, np.ones(len(frame), int), words=1, least=1)) == 1


@pytest.mark.parametrize("texts", [[], ["?!"], ["one", "two", "three"]])
def test_give_aways_of_next_to_nothing(texts):
    frame = pd.DataFrame({"text": pd.Series(texts, dtype=str), "label": 0, "source": "set"})
    table = give_aways(frame, np.ones(len(frame), int), least=1)
    assert table.columns.tolist() == ["word", "attack", "benign", "attack_share"]
    assert set(table["word"]) == {text for text in texts if text.isalpha()}


def test_the_overlap_is_a_matrix_with_totals():
    kinds = [("a", "x", "exact", 2), ("a", "x", "near", 1), ("b", "y", "exact", 4)]
    table = overlap([dict(zip(("source", "benchmark", "kind", "rows"), row, strict=True)) for row in kinds])
    assert table.loc["a"].to_dict() == {"x": 3, "y": 0, "total": 3}
    assert table.loc["total"].to_dict() == {"x": 3, "y": 4, "total": 7}
    assert overlap([]).empty
