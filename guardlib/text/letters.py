"""The Latin letter behind marks, ornament and look-alikes. Torch-free."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Set

from guardlib.text.alphabets import ORNAMENTS, SMALL_CAPITALS

_LETTERS = re.compile(r"[^\W\d_]+")
_MIN_FOLDED = 4  # compatibility letters in known words that make a disguise; "ﬁ", "m²" and "Ⅳ" are ordinary
#: A word in ornament, which is of no language: mathematical letters, and those in circles, squares and parentheses.
_ORNATE = re.compile("[\u249c-\u24e9\U0001d400-\U0001d7cb\U0001f110-\U0001f189]{3,}")
_MIN_ORNATE = 3  # words; a formula has one or two

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


def to_latin(word: str, lookalikes: Mapping[str, str]) -> str:
    """``word`` with look-alikes as Latin letters, where it mixes them with Latin ones and no other script is left."""
    if word.isascii() or not any(char.isascii() for char in word):
        return word
    latin = "".join(char if char.isascii() else lookalikes.get(char, char) for char in word)
    disguise = all(without_marks(char).isascii() for char in latin)
    return latin if disguise else word  # a loan with an ending


def is_disguise(text: str, folded: str, known: Set[str], lookalikes: Mapping[str, str]) -> bool:
    """Whether letters of ``text`` that ``folded`` has as ASCII are parts of known words, or make up some."""
    count = 0
    for match in _LETTERS.finditer(folded):
        before, word = text[match.start() : match.end()], match.group()
        if before == word or len(word) < 3 or to_latin(word, lookalikes).lower() not in known:
            continue
        if any(char.isascii() for char in before) and not any(char in SMALL_CAPITALS for char in before):
            return True
        count += len(word)
        if count >= _MIN_FOLDED:
            return True
    return False


def without_ornament(text: str) -> str:
    """``text`` with words in ornament as plain letters, whatever they spell, where there are several."""
    if len(_ORNATE.findall(text)) < _MIN_ORNATE:
        return text
    return _ORNATE.sub(lambda match: "".join(map(plain_letter, match.group())), text)
