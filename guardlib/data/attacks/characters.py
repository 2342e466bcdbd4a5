"""Characters exchanged for others that look like them, or added where nobody sees them."""

from __future__ import annotations

import functools
import re
import unicodedata

import numpy as np

from guardlib.data.attacks.encodings import encodable
from guardlib.data.attacks.registry import attack
from guardlib.text.alphabets import FROM_UPSIDE_DOWN, UPSIDE_DOWN, turn, turn_back
from guardlib.text.decoders import apply_deletions
from guardlib.text.lookalikes import latin_lookalikes

ZERO_WIDTH = "\u200b\u200c\u200d\u2060"  # space, non-joiner, joiner, word joiner
_ZERO_WIDTH = re.compile(f"[{ZERO_WIDTH}]")
#: First word of a look-alike's Unicode name → the kind of disguise; a text is disguised in one kind.
_STYLES = {"CYRILLIC": "script", "GREEK": "script", "ARMENIAN": "script", "MATHEMATICAL": "mathematical"}
_BAD_CHARACTERS = "Boucher et al. 2022, Bad Characters, arXiv 2106.09898"
_BYPASSING = (
    "Hackett et al. 2025, Bypassing Prompt Injection and Jailbreak Detection in LLM Guardrails, arXiv 2504.11168"
)


def _places(size: int, share: float, rng: np.random.Generator) -> set[int]:
    """That share of the numbers below ``size``, at least one."""
    return set(rng.choice(size, size=max(1, round(size * share)), replace=False).tolist())


@functools.cache
def _lookalikes() -> tuple[dict[str, dict[str, tuple[str, ...]]], dict[str, str]]:
    """``({style: {ASCII letter: look-alikes}}, {look-alike: ASCII letter})``. No look-alike stands for two letters."""
    styles: dict[str, dict[str, list[str]]] = {"script": {}, "mathematical": {}}
    back: dict[str, str] = {}
    for char, letter in latin_lookalikes().items():
        kind = unicodedata.name(char).split()[0]
        style = _STYLES.get(kind)
        if style and unicodedata.category(char) in ("Lu", "Ll"):
            styles[style].setdefault(letter, []).append(char)
            back[char] = letter
    return {style: {key: tuple(chars) for key, chars in table.items()} for style, table in styles.items()}, back


@functools.cache
def _plain_letters() -> dict[int, str]:
    return str.maketrans(_lookalikes()[1])


def from_homoglyphs(text: str) -> str:
    """Every known look-alike as the ASCII letter it passes for."""
    return text if text.isascii() else text.translate(_plain_letters())


@attack(
    "homoglyph",
    "characters",
    f"Unicode Technical Report 39, confusables; {_BAD_CHARACTERS}",
    inverse=from_homoglyphs,
    domain="every str that holds no look-alike itself (all ASCII text is)",
    in_domain=lambda text: not any(char in _lookalikes()[1] for char in text),
)
def homoglyphs(text: str, rng: np.random.Generator) -> str:
    """30–100 % of the ASCII letters as Cyrillic, Greek and Armenian look-alikes, or as mathematical letters.

    At least one letter changes where any can; text without Latin letters stays as it is.
    """
    styles = _lookalikes()[0]
    table = styles["script" if rng.random() < 0.7 else "mathematical"]
    places = [place for place, char in enumerate(text) if char in table]
    if not places:
        return text
    chars = list(text)
    count = max(1, round(len(places) * rng.uniform(0.3, 1.0)))
    for place in sorted(rng.choice(places, size=count, replace=False).tolist()):
        chars[place] = str(rng.choice(table[text[place]]))
    return "".join(chars)


def without_zero_width(text: str) -> str:
    """``text`` without the four zero-width characters."""
    return text if text.isascii() else _ZERO_WIDTH.sub("", text)


@attack(
    "zero_width",
    "characters",
    f"{_BAD_CHARACTERS}; {_BYPASSING}",
    inverse=without_zero_width,
    domain="every str without U+200B, U+200C, U+200D, U+2060",
    in_domain=lambda text: not any(char in ZERO_WIDTH for char in text),
)
def zero_width(text: str, rng: np.random.Generator) -> str:
    """A zero-width character after 30–100 % of the characters (after at least one)."""
    if not text:
        return text
    marked = _places(len(text), rng.uniform(0.3, 1.0), rng)
    marks = rng.integers(0, len(ZERO_WIDTH), len(text))
    return "".join(char + ZERO_WIDTH[marks[place]] if place in marked else char for place, char in enumerate(text))


@attack(
    "deletion",
    "characters",
    f"{_BAD_CHARACTERS}; {_BYPASSING}",
    inverse=lambda text: apply_deletions(text)[0],
    domain="every str without backspace and delete characters",
    in_domain=lambda text: "\b" not in text and "\x7f" not in text,
)
def deletions(text: str, rng: np.random.Generator) -> str:
    """After 20–60 % of the characters a letter and the backspace that deletes it."""
    if not text:
        return text
    places = _places(len(text), rng.uniform(0.2, 0.6), rng)
    letters = rng.integers(97, 123, len(text))
    return "".join(f"{char}{chr(letters[place])}\b" if place in places else char for place, char in enumerate(text))


_OVERRIDE, _POP = "\u202e", "\u202c"


def from_bidirectional(text: str) -> str:
    """Undo :func:`bidirectional`; ValueError where the override is missing."""
    if not (text.startswith(_OVERRIDE) and text.endswith(_POP)):
        raise ValueError("no right-to-left override around the text")
    return text[1:-1][::-1]


@attack(
    "bidirectional",
    "characters",
    f"{_BAD_CHARACTERS}; {_BYPASSING}",
    inverse=from_bidirectional,
)
def bidirectional(text: str, rng: np.random.Generator) -> str:
    """Stored last character first under a right-to-left override, so that it is shown the right way round."""
    return _OVERRIDE + text[::-1] + _POP


def from_tags(text: str) -> str:
    """Tag characters as the ASCII they spell."""
    return "".join(chr(ord(char) - 0xE0000) if 0xE0020 <= ord(char) <= 0xE007E else char for char in text)


@attack(
    "tags",
    "characters",
    _BYPASSING,
    inverse=from_tags,
    domain="every str without tag characters",
    in_domain=lambda text: not any(0xE0020 <= ord(char) <= 0xE007E for char in text),
)
def tags(text: str, rng: np.random.Generator) -> str:
    """Printable ASCII as Unicode tag characters, which no font shows."""
    return "".join(chr(ord(char) + 0xE0000) if " " <= char <= "~" else char for char in text)


_CARRIERS = "😀🎉👍✨🔥🙏"


def from_emoji(text: str) -> str:
    """The text that the variation selectors after the first character spell; ValueError where they spell none."""
    if text[:1] not in _CARRIERS or not text:
        raise ValueError("no emoji to carry the text")
    points = [ord(char) for char in text[1:]]
    if not all(0xFE00 <= point <= 0xFE0F or 0xE0100 <= point <= 0xE01EF for point in points):
        raise ValueError("not all that follows the emoji is a variation selector")
    return bytes(point - 0xFE00 if point <= 0xFE0F else point - 0xE0100 + 16 for point in points).decode()


@attack(
    "emoji_smuggling",
    "characters",
    _BYPASSING,
    inverse=from_emoji,
    domain="every str without lone surrogates",
    in_domain=encodable,
)
def emoji_smuggling(text: str, rng: np.random.Generator) -> str:
    """One emoji, and the UTF-8 bytes of the text as variation selectors after it."""
    selectors = (chr(0xFE00 + byte) if byte < 16 else chr(0xE0100 + byte - 16) for byte in text.encode())
    return _CARRIERS[int(rng.integers(len(_CARRIERS)))] + "".join(selectors)


def from_full_width(text: str) -> str:
    """Full-width forms as ASCII."""
    return "".join(chr(ord(char) - 0xFEE0) if "\uff01" <= char <= "\uff5e" else char for char in text)


@attack(
    "full_width",
    "characters",
    _BYPASSING,
    inverse=from_full_width,
    domain="every str without full-width forms",
    in_domain=lambda text: not any("\uff01" <= char <= "\uff5e" for char in text),
)
def full_width(text: str, rng: np.random.Generator) -> str:
    """ASCII letters, digits and marks in the full-width forms of East Asian text."""
    return "".join(chr(ord(char) + 0xFEE0) if "!" <= char <= "~" else char for char in text)


@attack(
    "upside_down",
    "characters",
    _BYPASSING,
    inverse=turn_back,
    domain="text of lower-case letters, spaces and . , ? ! ' _",
    in_domain=lambda text: all(char in UPSIDE_DOWN or char == " " for char in text),
)
def upside_down(text: str, rng: np.random.Generator) -> str:
    """Turned by half a circle: lower-case look-alikes of turned letters, last first. Other scripts stay as they are."""
    lower = text.lower()
    letters = [char for char in lower if char.isalpha()]
    if any(char in FROM_UPSIDE_DOWN and not char.isascii() for char in lower):
        return text
    return turn(lower) if sum(char in UPSIDE_DOWN for char in letters) >= len(letters) / 2 else text


_MARKS = "\u0300\u0301\u0302\u0303\u0304\u0306\u0307\u0308\u030a\u030b\u030c\u0323\u0327\u0331"
_UNDERLINE = "\u0332"


def without_marks(text: str) -> str:
    """``text`` without combining marks of Latin letters, composed letters taken apart."""
    return text if text.isascii() else re.sub("[\u0300-\u036f]", "", unicodedata.normalize("NFD", text))


@attack(
    "diacritics",
    "characters",
    _BYPASSING,
    inverse=without_marks,
    domain="ASCII text",
    in_domain=str.isascii,
)
def diacritics(text: str, rng: np.random.Generator) -> str:
    """50–100 % of the ASCII letters with an accent or another mark."""
    letters = [place for place, char in enumerate(text) if char.isascii() and char.isalpha()]
    if not letters:
        return text
    chosen = {letters[index] for index in _places(len(letters), rng.uniform(0.5, 1.0), rng)}
    marks = rng.integers(0, len(_MARKS), len(text))
    marked = (char + _MARKS[marks[place]] if place in chosen else char for place, char in enumerate(text))
    return unicodedata.normalize("NFC", "".join(marked))


@attack(
    "underline",
    "characters",
    _BYPASSING,
    inverse=lambda text: text.replace(_UNDERLINE, ""),
    domain="every str without U+0332",
    in_domain=lambda text: _UNDERLINE not in text,
)
def underline(text: str, rng: np.random.Generator) -> str:
    """A combining low line under each letter and digit."""
    return "".join(char + _UNDERLINE if char.isalnum() else char for char in text)


def without_spacing(text: str) -> str:
    """Undo :func:`spacing`."""
    return " ".join(word.replace(" ", "") for word in text.split("   "))


@attack(
    "spacing",
    "characters",
    _BYPASSING,
    inverse=without_spacing,
    domain="words with one space between them",
    in_domain=lambda text: bool(text) and text == " ".join(text.split()),
)
def spacing(text: str, rng: np.random.Generator) -> str:
    """A space between letters, three between words."""
    return "   ".join(" ".join(word) for word in text.split())


_LEET = {"a": "4", "e": "3", "i": "1", "o": "0", "s": "5", "t": "7"}
_FROM_LEET = str.maketrans({digit: letter for letter, digit in _LEET.items()})


@attack(
    "leet",
    "characters",
    _BYPASSING,
    inverse=lambda text: text.translate(_FROM_LEET),
    domain="lower-case text without the digits 0 1 3 4 5 7",
    in_domain=lambda text: text == text.lower() and not any(digit in text for digit in _LEET.values()),
)
def leet(text: str, rng: np.random.Generator) -> str:
    """60–100 % of the letters a e i o s t as digits."""
    places = [place for place, char in enumerate(text) if char.lower() in _LEET and char.isascii()]
    if not places:
        return text
    chosen = {places[index] for index in _places(len(places), rng.uniform(0.6, 1.0), rng)}
    return "".join(_LEET[char.lower()] if place in chosen else char for place, char in enumerate(text))


@attack(
    "typoglycemia",
    "characters",
    "Rawlinson 1976, The significance of letter position in word recognition; as an attack: OWASP Cheat Sheet Series, "
    "LLM Prompt Injection Prevention",
)
def typoglycemia(text: str, rng: np.random.Generator) -> str:
    """Words of four letters or more with their inner letters shuffled; first and last stay."""

    def shuffle(match: re.Match[str]) -> str:
        word = match.group()
        inner = list(word[1:-1])
        rng.shuffle(inner)
        return word[0] + "".join(inner) + word[-1]

    return re.sub(r"[^\W\d_]{4,}", shuffle, text)
