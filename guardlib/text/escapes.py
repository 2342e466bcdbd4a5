"""Characters written as escapes, as JSON, JavaScript, Python, Java and HTML read them.

Writers escape what is not ASCII, and signs; letters that any keyboard has, hardly ever. Torch-free: the released guard
runs this file.
"""

from __future__ import annotations

import re
import sys

#: ``\u00e9``, ``\u{1f600}``, ``\U0001f600``, ``\x41`` (ASCII: others are bytes), however many backslashes; ``&#233;``,
#: ``&#xe9;`` and references to what nobody sees, ``&`` escaped or not. One or more of them.
_RUN = re.compile(
    r"(?:(?<!\\)\\+(?:u+[0-9A-Fa-f]{4}|u+\{0{0,9}[0-9A-Fa-f]{2,6}\}|U[0-9A-Fa-f]{8}|x[2-7][0-9A-Fa-f])"
    r"|&(?:amp;)*(?:#(?:[xX]0{0,9}[0-9A-Fa-f]{1,6}|0{0,9}[0-9]{1,7});?"
    r"|(?:shy|zwj|zwnj|lrm|rlm|NoBreak|ZeroWidthSpace);))+"
)
_ONE = re.compile(r"[uUxX]\{?([0-9A-Fa-f]+)|#([0-9]+)|(shy|zwj|zwnj|lrm|rlm|NoBreak|ZeroWidthSpace);")
_NAMED = {"shy": "\u00ad", "zwj": "\u200d", "zwnj": "\u200c", "lrm": "\u200e", "rlm": "\u200f"}
_UNSEEN = "\u200b"
_NOUGHT = "\x00"  # for what is no character: a rule for invisible ones tells whether it parts words
_LONE = re.compile("[\ud800-\udfff]")
_MOST_NESTED = 3  # escapes of escapes
_LEAST_LETTERS = 3


def from_escapes(text: str) -> tuple[str, bool]:
    """``text`` with its escapes as characters, and whether three ASCII letters or more were among them.

    Letters beside no other letter do not count: they are ends of a range, or a table.
    """
    letters = 0

    def spelt(match: re.Match[str]) -> str:
        nonlocal letters
        units = "".join(map(_character, _ONE.finditer(match.group())))
        found = _LONE.sub(_NOUGHT, units.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass"))
        start, stop = match.span()
        letters += _letters(found, match.string[start - 1 : start], match.string[stop : stop + 1])
        return found

    for _ in range(_MOST_NESTED):
        undone = _RUN.sub(spelt, text)
        if undone == text:
            break
        text = undone
    return text, letters >= _LEAST_LETTERS


def _character(escape: re.Match[str]) -> str:
    """What one escape stands for; from 128 to 159 as browsers read it, Windows-1252."""
    base16, base10, name = escape.groups()
    if name:
        return _NAMED.get(name, _UNSEEN)
    code = int(base16, 16) if base16 else int(base10)
    if 0x80 <= code < 0xA0:
        return bytes([code]).decode("cp1252", "ignore") or _NOUGHT
    return chr(code) if code <= sys.maxunicode else _NOUGHT


def _letters(found: str, before: str, after: str) -> int:
    """ASCII letters of ``found`` that stand beside a letter, between the characters ``before`` and ``after``."""
    whole = f"{before or ' '}{found}{after or ' '}"
    return sum(
        char.isascii() and char.isalpha() and (whole[place].isalpha() or whole[place + 2].isalpha())
        for place, char in enumerate(found)
    )
