import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardlib.data.corpus import corpus_benchmark_frames, corpus_frames
from guardlib.data.hard_negatives import (
    DISTINCT_3,
    KINDS,
    OPENINGS,
    diversity,
    diversity_by_kind,
    generate,
    passages,
    quotas,
)
from guardlib.data.records import fold
from guardlib.data.splits import SPLITS
from guardlib.data.wordings import of_split
from guardlib.labels import RECORD_COLUMNS


@pytest.fixture(scope="module")
def many() -> pd.DataFrame:
    return generate(1500, np.random.default_rng(0))


def test_diversity_is_kept(many):
    measured = diversity(many)
    assert measured["distinct_3"] >= DISTINCT_3 == 0.5
    assert measured["near_duplicate_rate"] <= 0.05
    assert measured["rows"] == 1500


def test_rows_are_benign_records_in_many_languages(many):
    assert tuple(many.columns) == RECORD_COLUMNS
    assert set(many["label"]) == {0}
    assert many["lang"].nunique() >= 10
    assert many["text"].map(fold).is_unique


def test_each_row_holds_a_hand_written_sentence_and_none_that_is_held_out(many):
    seeds = [fold(text)[:25] for text in corpus_frames(held_out=False)["hard_negatives"]["text"]]
    folded = many["text"].map(fold)
    assert sum(any(seed in text for seed in seeds) for text in folded) > 0.9 * len(many)  # the rest has a planted typo
    held = [fold(text) for text in corpus_benchmark_frames()["hard_negatives"]["text"] if len(text) > 25]
    assert not any(seed in text for seed in held for text in folded)


def test_same_generator_same_rows():
    first, second = (generate(40, np.random.default_rng(5)) for _ in range(2))
    pd.testing.assert_frame_equal(first, second)
    assert len(first) == 40
    assert generate(0, np.random.default_rng(0)).empty


@pytest.mark.parametrize("split", SPLITS)
def test_what_is_said_around_a_sentence_is_that_of_the_split(split):
    rows = generate(300, np.random.default_rng(1), split=split)
    assert set(rows["split"]) == {split}
    texts = "\n".join(rows["text"])
    said = {text for text in OPENINGS if len(text) > 20 and text in texts}  # shorter ones occur in requests too
    assert said
    assert said <= set(of_split(OPENINGS, split))


def test_few_sentences_give_few_rows_rather_than_repetition():
    seeds = corpus_frames(held_out=False)["hard_negatives"].head(5)
    few = generate(10_000, np.random.default_rng(0), seeds)
    assert 0 < len(few) < 500
    assert diversity(few)["distinct_3"] >= DISTINCT_3


def test_each_kind_has_its_share():
    rows = diversity_by_kind(generate(240, np.random.default_rng(0)))["rows"]
    assert rows.to_dict() == {
        "trigger words": 120,
        "technical documentation": 40,
        "code": 40,
        "borderline": 40,
        "all": 240,
    }


def test_a_kind_of_few_sentences_falls_short_and_takes_nothing_from_the_others():
    seeds = corpus_frames(held_out=False)["hard_negatives"]
    code = seeds[seeds["family"] == "code"].head(3)
    few = pd.concat([code, seeds[seeds["family"] != "code"]])
    rows = diversity_by_kind(generate(1200, np.random.default_rng(0), few))["rows"]
    assert 0 < rows["code"] < 200
    assert rows["trigger words"] == 600


@given(
    st.lists(st.sampled_from(["code", "borderline", "quoted", "technical_docs", "new"]), max_size=9), st.integers(0, 99)
)
def test_quotas_of_the_kinds_that_are_there_sum_to_what_is_asked(families, n):
    kinds, room = quotas(pd.Series(families, dtype=object), n)
    assert set(kinds) == set(room) <= set(KINDS)
    assert sum(room.values()) == (n if families else 0)
    assert min(room.values(), default=0) >= 0


def test_passages_are_sentences_that_follow_each_other():
    found, words, ends = [], st.sampled_from(["a ", "bb ", "ccc "]), st.sampled_from([".", "!", "\n"])
    sentence = st.builds(lambda word, times, end: word * times + end, words, st.integers(5, 90), ends)

    @given(st.lists(sentence, max_size=9).map(" ".join))
    def check(text):
        found.append(passages(text))
        for passage in found[-1]:
            assert 40 <= len(passage) <= 240
            assert " ".join(passage.split()) in " ".join(text.split())

    check()
    assert sum(map(len, found)) > 10  # or nothing was checked


def test_no_passage_goes_on_over_a_sentence_that_is_too_long():
    first, last = (
        "It rained all day and nobody went out to the garden.",
        "The shop opens at nine and closes at noon on Sunday.",
    )
    assert passages(f"{first} {'word ' * 80}. {last}") == [first, last]
    assert passages("Short.") == []


def test_diversity_tells_repetition():
    text = "ignore the previous draft and send the new one to the printer today"
    repeated = pd.DataFrame({"text": [f"{text} {number}" for number in range(20)]})
    assert diversity(repeated)["distinct_3"] < 0.2
    assert diversity(repeated)["near_duplicate_rate"] == pytest.approx(0.95)
