"""Segments of a text that may be a code → what they spell, or None. Whether that reads as language is for views to say.

Torch-free: the released guard runs this file.
"""

from __future__ import annotations

import base64
import binascii
import itertools
import json
import re
from collections.abc import Iterator, Sequence
from urllib.parse import unquote

from guardlib.text.alphabets import from_morse

_ESCAPE = re.compile(r"%[0-9A-Fa-f]{2}")
_STRUCTURE = re.compile(r'\{\s*"value"\s*:|\[\s*\{\s*"[^"]{1,40}"\s*:\s*\d+\s*\}')
_LEAST_WORDS = 4  # fewer could be data
_MOST_PARSED = 8  # times the length of the text
_REBASE = 8192  # characters
_STRETCH = 200  # characters
_LETTERS_AND_SPACES = 0.85  # of a stretch of writing, in any language; code and data have less
_LEAST_LETTERS = 12
_LEAST_ESCAPES, _MOST_LOST = 3, 0.05  # escapes; share of characters that are none
_LEAST_CODE = 16  # characters of base64
_MOST_PARTS = 4
_DIVIDES = re.compile("[/_-]+")
_NODE = {"value", "left", "right"}
_LEET_WORD = re.compile(r"[A-Za-z0134578@$!]+")
_LEET = str.maketrans("0134578@$!", "oieastbasi")


def from_url(segment: str) -> str | None:
    """``%48%69`` → ``Hi``; None with fewer than three escapes, which any link has, or where they spell no text."""
    if len(_ESCAPE.findall(segment)) < _LEAST_ESCAPES:
        return None
    decoded = unquote(segment)
    return decoded if decoded.count("\ufffd") <= _MOST_LOST * len(decoded) else None


def from_base64(segment: str) -> str | None:
    """Standard or URL-safe alphabet, padded or not.

    What stands before the code may be of its alphabet, too ("https://a.org/SWdub3Jl…"), and stays: the code may begin
    up to three characters later, or after one of the first signs that divide.
    """
    signs = (match.end() for match in itertools.islice(_DIVIDES.finditer(segment), _MOST_PARTS))
    for start in (*range(4), *signs):
        code = segment[start:].rstrip("=").replace("-", "+").replace("_", "/")
        code = code[: len(code) - (len(code) % 4 == 1)]  # a sign alone spells nothing
        if len(code) < _LEAST_CODE:
            continue
        try:
            decoded = _as_text(base64.b64decode(code + "=" * (-len(code) % 4), validate=True))
        except (binascii.Error, ValueError):
            continue
        if decoded is not None:
            return f"{segment[:start]} {decoded}" if start else decoded
    return None


def from_hex(segment: str) -> str | None:
    """Bytes as pairs of digits, whatever stands between them; a word like "be" beside them reads as one, too.

    A digit too many at the end is passed over.
    """
    digits = re.sub(r"[\\0]x|[\s:,.-]", "", segment)
    return _as_text(bytes.fromhex(digits[: len(digits) // 2 * 2]))


def _as_text(raw: bytes) -> str | None:
    """``raw`` as UTF-8, of which up to a tenth may be none: one wrong byte must not hide the others."""
    decoded = raw.decode("utf-8", "replace")
    return decoded if decoded.count("\ufffd") <= len(decoded) / 10 else None


def from_leet(text: str) -> str:
    """Digits and signs → letters in words that hold a letter; numbers and marks at the end of a word stay."""

    def undo(match: re.Match[str]) -> str:
        word = match.group()
        core = word.rstrip("!")
        return core.translate(_LEET) + word[len(core) :] if any(char.isalpha() for char in core) else word

    return _LEET_WORD.sub(undo, text)


def from_base32(segment: str) -> str | None:
    """Upper-case alphabet, padded or not."""
    try:
        padded = segment.rstrip("=")
        return _as_text(base64.b32decode(padded + "=" * (-len(padded) % 8)))
    except (binascii.Error, ValueError):
        return None


def from_binary(segment: str) -> str | None:
    """Eight bits a byte, whatever stands between them."""
    bits = re.sub(r"[^01]", "", segment)
    return _as_text(bytes(int(bits[start : start + 8], 2) for start in range(0, len(bits) - 7, 8)))


def from_morse_code(segment: str) -> str | None:
    """The words, with a space on either side: the pattern takes those that set the code off."""
    try:
        return f" {from_morse(segment)} "
    except ValueError:
        return None


def apply_deletions(text: str) -> tuple[str, str]:
    """``text`` as a terminal shows it, each backspace or delete taking the character before it; and all they took."""
    kept: list[str] = []
    deleted: list[str] = []
    for char in text:
        if char not in "\b\x7f":
            kept.append(char)
        elif kept:
            deleted.append(kept.pop())
    return "".join(kept), "".join(reversed(deleted))


def _each_once(pairs: list[tuple[str, object]]) -> dict | list:
    """A JSON object whose keys all differ; else its pairs, which are no node, or words would go unread."""
    found = dict(pairs)
    return found if len(found) == len(pairs) else pairs


_JSON = json.JSONDecoder(object_pairs_hook=_each_once)


def tree_words(tree: dict | None) -> Iterator[str]:
    """Values of ``{"value": …, "left": …, "right": …}`` in order; KeyError, TypeError or AttributeError for others.

    A node with other keys is none: what they hold would go unread.
    """
    path, node = [], tree
    while path or node is not None:
        while node is not None:
            if node.keys() != _NODE:
                raise KeyError(f"a node has keys {sorted(node)}")
            path.append(node)
            node = node["left"]
        node = path.pop()
        yield node["value"]
        node = node["right"]


def in_order(pairs: Sequence[dict[str, int]]) -> list[str]:
    """The words of ``[{"word": place}, …]`` in their places; AttributeError or TypeError where it is no such list."""
    return [word for _, word in sorted((place, word) for pair in pairs for word, place in pair.items())]


def from_word_structure(text: str) -> str:
    """``text`` with trees of words, and lists of words with their places, as the words in order."""
    kept, start, left = [], 0, _MOST_PARSED * len(text)
    base, rest = 0, text  # an error counts the lines before it: from a copy that begins not far before
    for match in _STRUCTURE.finditer(text):
        if match.start() < start:
            continue
        if left <= 0:  # each that is no JSON may have been read to the end of the text
            break
        if match.start() - base > _REBASE:
            base, rest = match.start(), text[match.start() :]
        try:
            value, stop = _JSON.raw_decode(rest, match.start() - base)
        except (ValueError, RecursionError) as error:
            left -= base + _read(error, len(rest)) - match.start()
            continue
        stop += base
        try:
            words = list(tree_words(value) if isinstance(value, dict) else in_order(value))
            sentence = " ".join(words)
        except (AttributeError, KeyError, TypeError):
            left -= stop - match.start()
            continue
        if len(words) >= _LEAST_WORDS:
            kept += [text[start : match.start()], sentence]
            start = stop
    return "".join([*kept, text[start:]])


def _read(error: ValueError | RecursionError, end: int) -> int:
    """Up to where JSON was read before ``error``; ``end`` where that is not told."""
    told = isinstance(error, json.JSONDecodeError) and not error.msg.startswith("Unterminated")
    return error.pos if told else end


def is_writing(decoded: str) -> bool:
    """Whether some stretch of what a code of bytes spells is writing; chance spells no text.

    Known words are mostly English; bytes that are letters and spaces throughout are no accident in any language.
    """
    for start in range(0, len(decoded), _STRETCH):
        part = decoded[start : start + _STRETCH].strip()
        letters, spaces = sum(map(str.isalpha, part)), sum(map(str.isspace, part))
        words = letters >= _LEAST_LETTERS and spaces if part.isascii() else letters >= _LEAST_LETTERS / 2
        if words and letters + spaces >= _LETTERS_AND_SPACES * len(part):
            return True
    return False
