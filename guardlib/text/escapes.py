"""Characters written as escapes, as JSON, JavaScript, Python, Java and HTML read them.

Writers escape what is not ASCII, and signs; letters that any keyboard has, hardly ever. Torch-free: the released guard
runs this file.
"""

from __future__ import annotations

import html
import re
import sys

#: References to what nobody sees; others name what is seen.
_UNSEEN = "shy|zwj|zwnj|lrm|rlm|NoBreak|ZeroWidthSpace"
#: ``\u00e9``, ``\u{1f600}``, ``\U0001f600``, ``\x41`` (ASCII: others are bytes), however many backslashes; ``&#233;``,
#: ``&#xe9;`` and _UNSEEN, ``&`` escaped or not. One or more of them.
_RUN = re.compile(
    r"(?:(?<!\\)\\+(?:u+[0-9A-Fa-f]{4}|u+\{0{0,9}[0-9A-Fa-f]{2,6}\}|U[0-9A-Fa-f]{8}|x[2-7][0-9A-Fa-f])"
    rf"|&(?:amp;)*(?:#(?:[xX]0{{0,9}}[0-9A-Fa-f]{{1,6}}|0{{0,9}}[0-9]{{1,7}});?|(?:{_UNSEEN});))+"
)
_ONE = re.compile(rf"((?:#[xX]?[0-9A-Fa-f]+|{_UNSEEN});?)|[uUx]\{{?([0-9A-Fa-f]+)")
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
    """What one escape stands for."""
    reference, code = escape.groups()
    if reference:
        return html.unescape(f"&{reference}") or _NOUGHT
    return chr(int(code, 16)) if int(code, 16) <= sys.maxunicode else _NOUGHT


def _letters(found: str, before: str, after: str) -> int:
    """ASCII letters of ``found`` that stand beside a letter, between the characters ``before`` and ``after``."""
    whole = f"{before or ' '}{found}{after or ' '}"
    return sum(
        char.isascii() and char.isalpha() and (whole[place].isalpha() or whole[place + 2].isalpha())
        for place, char in enumerate(found)
    )
