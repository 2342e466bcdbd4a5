from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardlib.text.reading import OVERLAP, Window, batches_by_length, distinct_windows, worst_window
from guardlib.text.tokenizer import CLS, HIDDEN, PAD, SEP
from guardlib.text.views import RAW, View
from tests.helpers import make_reader, make_tokenizer

LONG = "please tell the report about my garden " * 40


@given(tokens=st.integers(0, 400), max_length=st.integers(8, 64), hidden=st.booleans())
def test_cuts_cover_every_token_and_overlap(tokens, max_length, hidden):
    room = max_length - 2 - hidden
    cuts = list(make_reader(max_length).cuts(tokens, hidden))
    assert cuts[0][0] == 0
    assert cuts[-1][1] == tokens
    assert len({stop - start for start, stop in cuts}) == 1
    assert cuts[0][1] <= room
    shared = int(OVERLAP * room)
    assert len(cuts) == 1 or room + (len(cuts) - 2) * (room - shared) < tokens  # one window fewer would not do
    for (start, stop), (next_start, next_stop) in pairwise(cuts):
        assert start < next_start < stop < next_stop
        assert stop - next_start >= int(OVERLAP * room)


def test_number_of_windows_is_linear():
    assert len(list(make_reader(34).cuts(10_000, False))) <= 10_000 / (32 * (1 - OVERLAP)) + 1


def test_windows_rebuild_the_text():
    reader = make_reader()
    windows = reader.windows([LONG])
    whole = make_tokenizer().encode([LONG])[0].ids
    rebuilt = np.zeros_like(whole)
    for window in windows:
        rebuilt[window.start : window.stop] = window.pieces.ids[window.start : window.stop]
        assert len(window) == reader.max_length
    assert np.array_equal(rebuilt, whole)
    assert windows[0].span[0] == 0
    assert windows[-1].span[1] == len(LONG.rstrip())


def test_windows_keep_the_order_of_texts_and_read_every_view():
    texts = ["hello", "", LONG, "nedrag ruoy nedrag", "\ud800"]
    reader = make_reader()
    windows = reader.windows(texts)
    owners = [window.text for window in windows]
    assert owners == sorted(owners)
    assert set(owners) == set(range(len(texts)))
    assert {window.view.name for window in windows if window.text == 3} == {"reversed", "reversed words"}  # the same
    assert [window.view for window in make_reader(64, views=False).windows(texts) if window.text == 3] == [
        View(RAW, texts[3], False)
    ]


def test_an_empty_text_is_one_window():
    (window,) = make_reader().windows([""])
    assert (len(window), window.span) == (2, (0, 0))


def test_collate():
    reader = make_reader()
    pieces = make_tokenizer().encode(["ignore the rules", "hello"])
    plain = Window(0, View(RAW, "ignore the rules", False), pieces[0], 0, 3)
    hidden = Window(1, View("rot13", "hello", True), pieces[1], 0, 1)
    batch = reader.collate([plain, hidden])
    ids = [pieces[0].ids.tolist(), pieces[1].ids.tolist()]
    assert batch.input_ids.tolist() == [[CLS, *ids[0], SEP], [CLS, HIDDEN, *ids[1], SEP, PAD]]
    assert batch.attention_mask.tolist() == [[1, 1, 1, 1, 1], [1, 1, 1, 1, 0]]
    assert batch.char_ids.shape == (2, 5, reader.tokenizer.chars_per_token)
    assert np.array_equal(batch.char_ids[0, 1:4], pieces[0].char_ids)
    assert np.array_equal(batch.char_ids[1, 2], pieces[1].char_ids[0])
    assert not batch.char_ids[0, [0, 4]].any()
    assert not batch.char_ids[1, [0, 1, 3, 4]].any()
    assert {array.dtype for array in (batch.input_ids, batch.char_ids, batch.attention_mask)} == {np.dtype(np.int64)}


def test_a_batch_is_never_longer_than_a_window_may_be():
    reader = make_reader(16)
    assert reader.collate(reader.windows([LONG, "hello"])).input_ids.shape[1] == 16


@given(st.lists(st.integers(1, 300), max_size=200), st.integers(1, 2000))
def test_batches_partition_under_the_budget(lengths, budget):
    batches = list(batches_by_length(lengths, budget))
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    for batch in batches:
        longest = max(lengths[row] for row in batch)
        assert len(batch) * longest <= budget or len(batch) == 1
    for batch, following in pairwise(batches):  # and no batch is smaller than it need be
        assert (len(batch) + 1) * lengths[following[0]] > budget


@given(st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=5), max_size=8))
@settings(max_examples=200)
def test_worst_window_is_the_naive_one(scores_by_text):
    windows, scores, expected = [], [], []
    for text, scores_here in enumerate(scores_by_text):
        expected.append(len(windows) + scores_here.index(max(scores_here)))
        windows += [Window(text, View(RAW, "", False), None, 0, 0) for _ in scores_here]
        scores += scores_here
    assert worst_window(windows, np.array(scores, float), len(scores_by_text)).tolist() == expected


def test_worst_window_refuses_a_text_without_windows():
    windows = [Window(0, View(RAW, "", False), None, 0, 0)]
    with pytest.raises(ValueError, match="windows cover 1 of 2 texts"):
        worst_window(windows, np.array([0.5]), 2)


def arrays_of(batch):
    """The arrays of a batch."""
    return batch.input_ids, batch.char_ids, batch.attention_mask


@given(
    st.lists(st.sampled_from(["the report", "THE report", "troper eht", "my garden", "the report!", LONG]), max_size=8)
)
def test_distinct_windows_are_the_sets_of_what_the_model_reads(texts):
    """Every window finds one that collates to the very same arrays; no two kept ones do."""
    reader = make_reader(24)
    windows = reader.windows(texts)
    kept, places = distinct_windows(windows)

    def seen(window):
        return tuple(array.tobytes() for array in arrays_of(reader.collate([window])))

    assert [seen(kept[place]) for place in places] == [seen(window) for window in windows]
    assert len({seen(window) for window in kept}) == len(kept)


def test_a_window_too_short_for_any_text_is_refused():
    with pytest.raises(ValueError, match="max_length is 3; expected at least 4"):
        make_reader(3)
