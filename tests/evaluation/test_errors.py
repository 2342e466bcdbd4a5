from __future__ import annotations

import pandas as pd
import pytest

from guardlib.evaluation.errors import _spans, browse, highest_spans, mistakes, worst_errors
from guardlib.evaluation.scores import score_rows
from guardlib.labels import HARMFUL_REQUEST
from guardlib.model.build import Guardrail
from guardlib.model.inference import decide, score_windows
from guardlib.text.reading import Window
from tests.evaluation.rows import benchmark_rows, probabilities
from tests.tiny_guard import TEXTS, build


@pytest.fixture
def scored() -> tuple[pd.DataFrame, pd.DataFrame]:
    asked = benchmark_rows(60, harmful=4)
    given = probabilities(asked["label"].to_numpy())
    given[:2] = [0.97, 0.01, 0.01, 0.01]  # harmful requests that are missed, and by the most
    return asked, score_rows(asked, "guard", given, 0.8)


def deciding(guardrail: Guardrail, texts: list[str]) -> list[tuple[Window, float]]:
    """The window that decides each text, and its attack score."""
    scores = score_windows(guardrail.model, guardrail.reader, texts, 2048)
    found = decide(scores, guardrail.calibration)
    return [(scores.windows[w], 1 - p[0]) for w, p in zip(found.window, found.probabilities, strict=True)]


def test_worst_errors_are_errors_and_leave_harmful_requests_out(scored):
    asked, rows = scored
    worst = worst_errors(rows, asked, each=5)
    assert len(worst) > 0
    assert set(worst["error"]) == {"false alarm", "missed"}
    alarms = worst[worst["error"] == "false alarm"]
    assert (alarms["label"] == "benign").all()
    assert alarms["score"].is_monotonic_decreasing
    assert worst[worst["error"] == "missed"]["score"].is_monotonic_increasing
    harmful = set(asked.loc[asked["family"] == HARMFUL_REQUEST, "text"])
    assert not harmful & set(worst["text"])


def test_mistakes_are_all_of_them(scored):
    asked, rows = scored
    judged = rows[rows["family"] != HARMFUL_REQUEST]
    assert len(mistakes(rows, asked)) == ((judged["label"] > 0) != (judged["predicted"] > 0)).sum()


def test_the_highest_span_is_a_part_of_the_text():
    guardrail = build().guardrail
    texts = ["short", " ".join(TEXTS[n] for n in (1, 0, 8, 4)), "", "two\nwords"]
    spans = highest_spans(guardrail, texts)
    assert spans[0] == "short"
    assert spans[2] == ""
    assert spans[3] == "two\nwords"  # as it stands, so that it can be found in the text
    assert spans[1] in texts[1]
    assert len(spans[1].split()) <= 12
    window, _ = deciding(guardrail, [texts[1]])[0]
    others = _spans(window.view.text[slice(*window.span)])
    scores = [score for _, score in deciding(guardrail, others)]
    assert max(scores) > min(scores) + 0.01
    assert scores[others.index(spans[1])] == pytest.approx(max(scores), abs=1e-5)
    assert highest_spans(guardrail, []) == []


def test_spans_cover_every_word():
    text = " ".join(str(n) for n in range(31))
    spans = _spans(text)
    assert {word for span in spans for word in span.split()} == set(text.split())
    assert all(len(span.split()) == 12 for span in spans)


def test_the_browser_shows_the_mistakes_a_person_asks_for(scored, monkeypatch):
    asked, rows = scored
    monkeypatch.setenv("GUARDLIB_HEADLESS", "1")
    assert "where a person runs" in browse(rows, asked)
    monkeypatch.delenv("GUARDLIB_HEADLESS")
    asked = asked.assign(text="<b>" + asked["text"])
    boxes, shown = browse(rows, asked, build().guardrail).children
    system, error, benchmark, number = boxes.children
    assert system.value == "guard"
    error.value = "missed"
    assert "missed" in shown.value
    assert "false alarm" not in shown.value
    assert "&lt;b&gt;" in shown.value, "a text is shown, never run"
    first = shown.value
    number.value = 1
    assert shown.value != first
    assert benchmark.options == ("all", "made")
