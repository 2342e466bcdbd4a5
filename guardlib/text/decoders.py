"""Segments of a text that may be a code → what they spell, or None. Whether that reads as language is for views to say.

Torch-free: the released guard runs this file.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterator, Sequence
from urllib.parse import unquote

from guardlib.text.alphabets import from_morse

_ESCAPE = re.compile(r"%[0-9A-Fa-f]{2}")
_STRUCTURE = re.compile(r'\{\s*"value"\s*:|\[\s*\{\s*"[^"]{1,40}"\s*:\s*\d+\s*\}')
_LEAST_WORDS = 4  # fewer could be data
_MOST_FAILURES = 8
_NODE = {"value", "left", "right"}
_LEET_WORD = re.compile(r"[A-Za-z0134578@$!]+")
_LEET = str.maketrans("0134578@$!", "oieastbasi")


def from_url(segment: str) -> str | None:
    """``%48%69`` → ``Hi``; None with fewer than three escapes, which any link has."""
    return unquote(segment) if len(_ESCAPE.findall(segment)) >= 3 else None


def from_base64(segment: str) -> str | None:
    """Standard or URL-safe alphabet, padded or not."""
    try:
        padded = segment.rstrip("=").replace("-", "+").replace("_", "/")
        return base64.b64decode(padded + "=" * (-len(padded) % 4), validate=True).decode("utf-8")
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return None


def from_hex(segment: str) -> str | None:
    """Up to a tenth of the bytes may be none of UTF-8: a word like "be" beside the code reads as hexadecimal too."""
    decoded = bytes.fromhex(re.sub(r"[\\0]x|[\s:,-]", "", segment)).decode("utf-8", "replace")
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
        return base64.b32decode(padded + "=" * (-len(padded) % 8)).decode("utf-8")
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return None


def from_binary(segment: str) -> str | None:
    """Eight bits a byte, whatever stands between them."""
    bits = re.sub(r"[^01]", "", segment)
    try:
        return bytes(int(bits[start : start + 8], 2) for start in range(0, len(bits) - 7, 8)).decode("utf-8")
    except UnicodeDecodeError:
        return None


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


def _each_once(pairs: list[tuple[str, object]]) -> dict:
    """A JSON object whose keys all differ, or words would go unread; ValueError else."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice")
    return found


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
    kept, start, failures = [], 0, 0
    for match in _STRUCTURE.finditer(text):
        if match.start() < start:
            continue
        if failures == _MOST_FAILURES:  # each may have read to the end of the text
            break
        try:
            value, stop = _JSON.raw_decode(text, match.start())
            words = list(tree_words(value) if isinstance(value, dict) else in_order(value))
            sentence = " ".join(words)
        except (ValueError, RecursionError, AttributeError, KeyError, TypeError):
            failures += 1
            continue
        if len(words) >= _LEAST_WORDS:
            kept += [text[start : match.start()], sentence]
            start = stop
    return "".join([*kept, text[start:]])
