import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardlib.data.adaptors import github
from guardlib.data.records import MAX_CHARACTERS, fold, frame_digest, read_flag, rng_for, screen, why_unusable
from guardlib.labels import RECORD_COLUMNS, Label


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, False),
        (1, True),
        (0.0, False),
        (1.0, True),
        (True, True),
        (np.int64(1), True),
        (np.float64(0), False),
        (np.bool_(True), True),
        ("0", False),
        ("1", True),
        ("True", True),
        (" injection ", True),
        ("benign", False),
        ("1.0", True),
        (2, None),
        (-1, None),
        (0.5, None),
        (float("nan"), None),
        (None, None),
        ("maybe", None),
        ([1], None),
    ],
)
def test_flags_are_read_whatever_their_type(value, expected):
    assert read_flag(value) is expected


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "empty"),
        (" \n\t\u3000", "empty"),
        (None, "NoneType"),
        (3.5, "float"),
        ("a\x00b", "NUL"),
        ("a\ud800b", "surrogate"),
        ("x" * (MAX_CHARACTERS + 1), "characters"),
    ],
)
def test_unusable_texts_are_named(text, word):
    assert word in why_unusable(text)


def test_longest_text_and_paired_surrogates_are_usable():
    assert why_unusable("x" * MAX_CHARACTERS) is None
    assert why_unusable("😀 okay") is None


def test_screen_keeps_good_rows_and_sets_the_others_aside_with_a_reason():
    texts = ["fine", "bad\x00", "\ud800", "also fine", "no label"]
    labels = [0, 1, 1, Label.JAILBREAK, "label 7 is neither 0 nor 1"]
    frame, quarantined = screen(texts, labels, ["f"] * 5, ["en"] * 5, "src", "train")
    assert tuple(frame.columns) == RECORD_COLUMNS
    assert frame["text"].tolist() == ["fine", "also fine"]
    assert frame["label"].tolist() == [0, 2]
    assert [row["row"] for row in quarantined] == [1, 2, 4]
    assert all(row["text"].isascii() and "\x00" not in row["text"] for row in quarantined)


@pytest.mark.parametrize("column", ["text", "label", "source", "family", "lang", "group"])
def test_the_digest_sees_what_training_reads(column):
    row = {"text": "t", "label": 1, "source": "s", "family": "f", "lang": "en", "group": 0}
    before, after = (frame_digest(pd.DataFrame([each])) for each in (row, row | {column: 2}))
    assert before != after
    assert frame_digest(pd.DataFrame([row | {"split": "train"}])) == before


@given(st.text())
def test_fold_is_stable_and_ignores_case_and_space(text):
    assert fold(f"  {text}\n") == fold(text)
    assert fold("ＡＢ  c") == "ab c"


def test_generators_depend_on_seed_and_name_only():
    assert rng_for(0, "a").integers(1 << 30) == rng_for(0, "a").integers(1 << 30)
    assert rng_for(0, "a").integers(1 << 30) != rng_for(0, "b").integers(1 << 30)
    assert rng_for(0, "a").integers(1 << 30) != rng_for(1, "a").integers(1 << 30)


def test_what_is_set_aside_is_named_by_its_place_in_the_source():
    """An adaptor may have dropped rows before it."""
    raw = pd.DataFrame({"text": ["a", "b", "Fine.", " "], "label": 0, "lang": "", "subset": "",
                        "category": ["unknown", "unknown", "benign", "benign"]})  # fmt: skip
    rows = github()(raw, "train")
    _, set_aside = screen(rows["text"], rows["label"], rows["family"], rows["lang"], "s", "train")
    assert [row["row"] for row in set_aside] == [3]
