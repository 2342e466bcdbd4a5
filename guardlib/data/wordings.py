"""Wordings, divided between the splits.

A threshold is set on validation. Where generated rows are put into the same sentences there as in training, it is set
on text the model knows, and comes out too low for anything new. So no two splits share a wording.
"""

from __future__ import annotations

from collections.abc import Sequence

_EVERY = 8  # one wording in eight is for validation, one for test
_PLACES = {"validation": (0,), "test": (1,), "train": tuple(range(2, _EVERY))}
_LEAST = 3  # wordings, so that each split has one


def of_split(wordings: Sequence[str], split: str) -> list[str]:
    """The wordings of ``split``: the first of each eight for validation, the second for test, the rest for training.

    Raises:
        ValueError: another split, or too few wordings for three.
    """
    if split not in _PLACES:
        raise ValueError(f"split is {split!r}; expected one of {', '.join(_PLACES)}")
    if len(wordings) < _LEAST:
        raise ValueError(f"{len(wordings)} wordings cannot be divided; expected at least {_LEAST}, one for each split")
    return [text for at, text in enumerate(wordings) if at % _EVERY in _PLACES[split]]
