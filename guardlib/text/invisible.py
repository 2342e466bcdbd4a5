"""Characters that nobody sees, and what they hide.

Torch-free: the released guard runs this file.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

#: Characters without a picture that take no room. ASCII has some, too: control characters but for blanks and deletions.
INVISIBLE = re.compile(
    "[\x00-\x07\x0e-\x1f\x80-\x84\x86-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f"
    "\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb\U0001d173-\U0001d17a\U000e0001\U000e0100-\U000e01ef]+"
)
_SELECTORS = re.compile("[\ufe00-\ufe0d\U000e0100-\U000e01ef]+")  # but for those that say how an emoji looks
_MIN_SMUGGLED = 4  # characters
_ALONE = 8  # characters in a run that are more than a part of a word
_TAGS = re.compile("[\U000e0020-\U000e007e]+\U000e007f?")
_FLAG, _TAG_END = "\U0001f3f4", "\U000e007f"
_REGIONS = ("gbeng", "gbsct", "gbwls")  # the flags that tags spell (Unicode Technical Standard 51, annex B.1)


def strip_invisible(text: str, gap: str = "") -> str:
    """``text`` without zero-width, bidirectional, variation and control characters; tags become what they spell.

    ``gap`` stands for those inside words. Only where they hide something: inside words, or many in a row. Stray ones
    beside a space are left by every second editor, and ordinary writing needs some: joiners and selectors
    between characters that take them (emoji sequences, Indic and Arabic scripts), flags spelt with tag characters,
    hyphenation.
    """
    tricks = 0
    tags = _join(found for match in _TAGS.finditer(text) if (found := _from_tags(match)))

    def spell(match: re.Match[str]) -> str:
        nonlocal tricks, tags
        if not _from_tags(match):
            return match.group()
        tricks += 1
        found, tags = tags, ""
        return f" {found} " if found else ""  # all of it where it begins: each flag may carry a syllable

    spelt_out = _TAGS.sub(spell, text)
    smuggled = _from_selectors(_SELECTORS.findall(spelt_out))

    def remove(match: re.Match[str]) -> str:
        nonlocal tricks, smuggled
        run, (start, end) = match.group(), match.span()
        if smuggled and _SELECTORS.search(run):  # each emoji may carry a letter
            tricks += 1
            found, smuggled = smuggled, ""
            return f" {found} "
        before, after = spelt_out[max(start - 2, 0) : start], spelt_out[end : end + 2]
        if run == "\u00ad" and len(before + after) == 4 and (before + after).isalpha():
            return run
        if len(run) <= 2 and before and _takes_invisible(before[-1]):
            return run
        inside = before[-1:].isalnum() and after[:1].isalnum()
        tricks += len(run) > 2 or inside
        return gap if inside else ""

    cleaned = INVISIBLE.sub(remove, spelt_out)
    return cleaned if tricks else text


def _takes_invisible(char: str) -> bool:
    """Hebrew and all that comes after it, but for other forms of Latin letters."""
    return ord(char) >= 0x590 and not unicodedata.normalize("NFKC", char).isascii()


def _join(parts: Iterable[str]) -> str:
    """``parts`` in one, a long one apart from what comes before it: it says something by itself."""
    joined = ""
    for part in parts:
        joined += (" " if joined and len(part) >= _ALONE else "") + part
    return joined


def _from_tags(match: re.Match[str]) -> str:
    """What tag characters spell; "" for a flag."""
    spelt, before = match.group(), match.string[max(match.start() - 1, 0) : match.start()]
    letters = "".join(chr(ord(char) - 0xE0000) for char in spelt.rstrip(_TAG_END))
    return "" if before == _FLAG and spelt.endswith(_TAG_END) and letters in _REGIONS else letters


def _from_selectors(runs: list[str]) -> str:
    """The text whose UTF-8 bytes variation selectors spell ("" where they spell none): emoji smuggling.

    Bytes that are no text are passed over: a single one would hide the rest.
    """
    points = (map(ord, run) for run in runs)
    spelt = _join("".join(chr(point - (0xFE00 if point < 0xFE10 else 0xE00F0)) for point in run) for run in points)
    decoded = spelt.encode("latin-1").decode("utf-8", "ignore")
    text = "".join(char for char in decoded if char.isprintable() or char.isspace())
    return text if len("".join(text.split())) >= _MIN_SMUGGLED else ""
