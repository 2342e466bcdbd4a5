"""Characters that nobody sees, and what they hide.

Torch-free: the released guard runs this file.
"""

from __future__ import annotations

import re

_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufe00-\ufe0f\U000e0100-\U000e01ef]+"
)
_SELECTORS = re.compile("[\ufe00-\ufe0f\U000e0100-\U000e01ef]+")
_MIN_SMUGGLED = 4  # bytes
_TAGS = re.compile("[\U000e0020-\U000e007e]+\U000e007f?")
_FLAG, _TAG_END = "\U0001f3f4", "\U000e007f"


def strip_invisible(text: str) -> str:
    """``text`` without zero-width, bidirectional and variation characters; tag characters become the text they spell.

    Only where they hide something: inside words, or many in a row. Stray ones beside a space are left by every second
    editor, and ordinary writing needs some: joiners and selectors between characters that take them (emoji sequences,
    Indic and Arabic scripts), flags spelt with tag characters, hyphenation.
    """
    tricks = 0

    def spell(match: re.Match[str]) -> str:
        nonlocal tricks
        spelt, before = match.group(), text[match.start() - 1 : match.start()]
        if before == _FLAG and spelt.endswith(_TAG_END) and len(spelt) <= 7:  # country and region: at most six
            return spelt
        tricks += 1
        return " " + "".join(chr(ord(char) - 0xE0000) for char in spelt.rstrip(_TAG_END)) + " "

    spelt_out = _TAGS.sub(spell, text)

    def remove(match: re.Match[str]) -> str:
        nonlocal tricks
        run, (start, end) = match.group(), match.span()
        if smuggled := _from_selectors(run):
            tricks += 1
            return f" {smuggled} "
        before, after = spelt_out[max(start - 2, 0) : start], spelt_out[end : end + 2]
        if run == "\u00ad" and len(before + after) == 4 and (before + after).isalpha():
            return run
        if len(run) <= 2 and before and ord(before[-1]) >= 0x590:  # Hebrew and all that comes after it
            return run
        tricks += len(run) > 2 or (before[-1:].isalnum() and after[:1].isalnum())
        return ""

    cleaned = _INVISIBLE.sub(remove, spelt_out)
    return cleaned if tricks else text


def _from_selectors(run: str) -> str:
    """The text whose UTF-8 bytes variation selectors spell ("" where they spell none): emoji smuggling."""
    if len(run) < _MIN_SMUGGLED or not _SELECTORS.fullmatch(run):
        return ""
    points = (ord(char) for char in run)
    try:
        text = bytes(point - 0xFE00 if point < 0xFE10 else point - 0xE0100 + 16 for point in points).decode("utf-8")
    except UnicodeDecodeError:
        return ""
    return text if "".join(text.split()).isprintable() else ""  # one selector again and again is an editor's slip
