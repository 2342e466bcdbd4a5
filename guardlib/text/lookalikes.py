"""The table of characters that pass for Latin letters, from Unicode Technical Report 39."""

from __future__ import annotations

import unicodedata

from confusable_homoglyphs import confusables


def latin_lookalikes() -> dict[str, str]:
    """Character → the ASCII letter it can be mistaken for, of the same case where TR 39 lists one.

    Letters of Latin alphabets (é, ø) are not disguises and are left out.
    """
    table: dict[str, str] = {}
    for char, entries in sorted(confusables.confusables_data.items()):
        if len(char) != 1 or char.isascii() or "LATIN" in unicodedata.name(char, "LATIN"):
            continue
        similar = [entry["c"] for entry in entries]
        letters = [other for other in similar if len(other) == 1 and other.isascii() and other.isalpha()]
        if letters:
            table[char] = next((letter for letter in letters if letter.isupper() == char.isupper()), letters[0])
    return table
