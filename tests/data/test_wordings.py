"""How wordings are divided between the splits, for every list that is."""

import pytest

from guardlib.data import hard_negatives, indirect
from guardlib.data.attacks import wrapper_words
from guardlib.data.injections import CLAUSES
from guardlib.data.notes import NOTES
from guardlib.data.splits import SPLITS
from guardlib.data.wordings import of_split

LISTS = {
    **{f"clauses {lang}": clauses for lang, clauses in CLAUSES.items()},
    **{f"code {rule}": codes for rule, codes in wrapper_words.CODES.items()},
    **{f"prose {rule}": prose for rule, prose in wrapper_words.PROSE.items()},
    **{f"notes {kind}": notes for kind, notes in NOTES.items()},
    "code layouts": wrapper_words.CODE_LAYOUTS,
    "text layouts": wrapper_words.TEXT_LAYOUTS,
    "split layouts": wrapper_words.SPLIT_LAYOUTS,
    "tasks": wrapper_words.TASKS,
    "openings": wrapper_words.OPENINGS,
    "closings": wrapper_words.CLOSINGS,
    "tasks before a document": indirect.TASKS_BEFORE,
    "tasks after a document": indirect.TASKS_AFTER,
    "openings of hard negatives": hard_negatives.OPENINGS,
    "closings of hard negatives": hard_negatives.CLOSINGS,
    "frames of hard negatives": hard_negatives.FRAMES,
}


@pytest.mark.parametrize("name", LISTS)
def test_each_wording_is_in_one_split_and_training_has_most(name):
    parts = {split: of_split(LISTS[name], split) for split in SPLITS}
    assert sorted(text for part in parts.values() for text in part) == sorted(set(LISTS[name])), (
        "none twice, none left out"
    )
    assert all(parts.values())
    assert len(parts["train"]) >= 4
    assert len(parts["train"]) > 2 * max(len(parts["validation"]), len(parts["test"]))


def test_a_split_that_is_none_and_too_few_wordings_are_refused():
    with pytest.raises(ValueError, match="split is 'held_out'; expected one of validation, test, train"):
        of_split("abcdefgh", "held_out")
    with pytest.raises(ValueError, match="2 wordings cannot be divided; expected at least 3"):
        of_split("ab", "train")


def test_by_hand():
    letters = "abcdefghijkl"
    assert of_split(letters, "validation") == ["a", "i"]
    assert of_split(letters, "test") == ["b", "j"]
    assert of_split(letters, "train") == list("cdefghkl")
