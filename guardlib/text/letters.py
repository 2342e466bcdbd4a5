"""The Latin letter behind marks, ornament and look-alikes. Torch-free."""

from __future__ import annotations

import re
import unicodedata

from guardlib.text.alphabets import ORNAMENTS

#: Combining marks that Latin letters take, and those that go around any character.
_MARK = re.compile("[\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]")


def without_marks(char: str) -> str:
    """The ASCII letter that ``char`` is with marks; "" for a mark of Latin letters; else ``char``."""
    if char.isascii():
        return char
    if _MARK.match(char):
        return ""
    base, *marks = unicodedata.normalize("NFD", char)  # of one character: a run of marks would cost its square
    return base if base.isascii() and marks and all(map(_MARK.match, marks)) else char


def plain_letter(char: str) -> str:
    """The ASCII letter or digit that ``char`` is a compatibility form of, else ``char``; one character either way."""
    plain = ORNAMENTS.get(char) or unicodedata.normalize("NFKC", char)
    return plain if len(plain) == 1 and plain.isascii() and plain.isalnum() else char


def to_latin(word: str, lookalikes: dict[str, str]) -> str:
    if word.isascii() or not any(char.isascii() for char in word):
        return word
    latin = "".join(char if char.isascii() else lookalikes.get(char, char) for char in word)
    disguise = all(without_marks(char).isascii() for char in latin)
    return latin if disguise else word  # a loan with an ending
