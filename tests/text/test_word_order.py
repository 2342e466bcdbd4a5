from __future__ import annotations

import functools

from hypothesis import given
from hypothesis import strategies as st

from guardlib.data.corpus import corpus_frames
from guardlib.text.word_order import WordOrder, reverse_order


@functools.cache
def learnt() -> WordOrder:
    """From the training part of the corpus."""
    return WordOrder.learn([text for frame in corpus_frames(held_out=False).values() for text in frame["text"]])


def sentences() -> list[str]:
    """English sentences of the held-out part, long enough to have an order."""
    frames = corpus_frames(held_out=True).values()
    rows = [row for frame in frames for row in frame.itertuples() if row.lang == "en"]
    return [row.text for row in rows if len(row.text.split()) >= 8 and len(row.text) < 300]


def test_unseen_sentences_are_told_from_their_reversal():
    order, texts = learnt(), sentences()
    assert len(texts) > 100
    assert sum(order.is_backward(text) for text in texts) <= 0.01 * len(texts)
    assert sum(order.is_backward(reverse_order(text)) for text in texts) >= 0.8 * len(texts)


@given(st.text())
def test_no_text_runs_backward_both_ways(text):
    order = learnt()
    assert not (order.is_backward(text) and order.is_backward(reverse_order(text)))


@given(st.text())
def test_reversing_twice_loses_nothing(text):
    assert reverse_order(reverse_order(text)) == text


def test_evidence_by_hand():
    order = WordOrder({"of the": 2.0, "the of": -2.0, "^ the": 1.0, "the $": -2.5, "^A. a$": 0.5})
    assert order.score("Of the") == 2.0 - 2.5
    assert order.score("The. of") == 1.0 + 0.5  # a full stop stands between "the" and "of"
    assert WordOrder({}).score("of the") == 0.0
    assert not WordOrder({}).is_backward("the of")


def test_what_is_learnt():
    order = WordOrder.learn(["Part of the plan."] * 9)
    assert order.table["of the"] > 0 > order.table["the of"]
    assert order.is_backward("plan. the of Part")
    assert WordOrder.learn(["Part of the plan."] * 9).table == order.table
    assert WordOrder.learn(["Part of the plan."] * 2).table == {}  # two sightings are chance
    assert max(map(abs, WordOrder.learn(["Part of the plan."] * 99).table.values())) == 3.0


def test_only_the_start_is_looked_at():
    order = learnt()
    start = sentences()[0]
    padded = start + " " * (1000 - len(start))
    assert order.score(padded + " the of the of") == order.score(padded)
