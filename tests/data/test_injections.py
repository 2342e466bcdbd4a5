"""Direct injections from the grammar and their benign twins."""

import pandas as pd
import pytest

from guardlib.data.corpus import corpus_frames
from guardlib.data.injections import CLAUSES, MAX_PART, composed
from guardlib.labels import Label


@pytest.fixture(scope="module")
def pool() -> pd.DataFrame:
    return pd.concat(corpus_frames(held_out=False).values(), ignore_index=True)


def test_half_are_attacks_of_like_length_in_every_language(pool):
    frame = composed(pool, 600, 0, "train")
    attack = frame["label"] == Label.DIRECT_INJECTION
    assert attack.sum() == 600 == (~attack).sum()
    assert set(frame.loc[attack, "lang"]) == set(CLAUSES)
    lengths = frame["text"].str.len()
    assert 0.85 < lengths[attack].median() / lengths[~attack].median() < 1.2


def test_a_twin_has_the_language_of_its_attack_and_as_many_parts(pool):
    """Nor does a bare clause stand for an attack: some are half a sentence."""
    frame = composed(pool, 400, 0, "train")
    clauses = {clause.lower() for of_lang in CLAUSES.values() for clause in of_lang}
    attack = frame["label"] == Label.DIRECT_INJECTION
    assert not frame.loc[attack, "text"].str.lower().isin(clauses).any()
    for mark in ("\n---\n", "\n###\n", "\n====\n", "\n</text>\n", "\n\nUser: "):
        joints = frame["text"].str.lower().str.count(mark.lower())
        assert 0.5 < (joints[attack].sum() + 1) / (joints[~attack].sum() + 1) < 2
    foreign = ("ru", "zh", "ja")
    latin = frame["text"].str.contains("[a-z]{4,} [a-z]{3,}", case=False)
    shares = [latin[(attack == side) & frame["lang"].isin(foreign)].mean() for side in (True, False)]
    assert abs(shares[0] - shares[1]) < 0.1


def test_each_attack_holds_a_clause_of_its_split_and_each_twin_none(pool):
    clauses = {clause.upper().lower() for of_lang in CLAUSES.values() for clause in of_lang}
    seen = {}
    for split in ("train", "validation", "test"):
        frame = composed(pool, 300, 0, split)
        held = frame["text"].str.upper().str.lower().map(lambda text: {clause for clause in clauses if clause in text})
        attack = frame["label"] == Label.DIRECT_INJECTION
        assert held[attack].map(bool).all()
        assert not held[~attack].map(bool).any()
        seen[split] = set().union(*held[attack])
    assert not seen["train"] & (seen["validation"] | seen["test"])
    assert not seen["validation"] & seen["test"]


def test_same_seed_same_rows_and_groups_come_from_the_pool(pool):
    first, second = (composed(pool, 50, 3, "train") for _ in range(2))
    pd.testing.assert_frame_equal(first, second)
    assert set(first["group"]) <= set(pool["group"])
    assert not first["text"].equals(composed(pool, 50, 4, "train")["text"])


def test_no_texts_no_rows(pool):
    assert composed(pool.iloc[:0], 5, 0, "train").empty
    assert composed(pool[pool["text"].str.len() > MAX_PART], 5, 0, "train").empty


def test_clauses_are_no_copies_of_one_another():
    for lang, clauses in CLAUSES.items():
        assert len(set(clauses)) == len(clauses) >= 8, lang
