"""Words with their inner letters shuffled, as readers still make them out. Torch-free: the released guard runs this."""

from __future__ import annotations

import functools
import re
from collections.abc import Collection

_WORD = re.compile(r"[^\W\d_]{4,30}")


class Unscrambler:
    """Finds the known word that has the letters of another one, and its first and last in their places."""

    def __init__(self, words: Collection[str]) -> None:
        self._words = words

    @functools.cached_property
    def _by_letters(self) -> dict[tuple[str, str, str], str]:
        """Known words by first letter, sorted inner letters and last letter; two with the same are left out."""
        words: dict[tuple[str, str, str], str] = {}
        for word in self._words:
            if len(word) > 3:
                key = _letters_of(word)
                words[key] = "" if key in words else word
        return words

    def __call__(self, text: str) -> str:
        """``text`` with shuffled words → the known word with these letters, where there is one only."""

        def restore(match: re.Match[str]) -> str:
            word = match.group().lower()
            return match.group() if word in self._words else self._by_letters.get(_letters_of(word)) or match.group()

        return _WORD.sub(restore, text)


def _letters_of(word: str) -> tuple[str, str, str]:
    return word[0], "".join(sorted(word[1:-1])), word[-1]
