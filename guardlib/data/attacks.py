"""Attack generators: a registry of functions ``(text, rng) -> text``, each with its citation and its inverse, if any.

A new attack is one function under :func:`attack`; training rows, the leakage check, tests and tables pick it up. The
same function makes attacks of attacks and benign rows of benign text: a trick says nothing about what it hides.
"""

from __future__ import annotations

import base64
import functools
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from guardlib.labels import Label
from guardlib.text.lookalikes import latin_lookalikes
from guardlib.text.word_order import reverse_order

Transform = Callable[[str, np.random.Generator], str]
Inverse = Callable[[str], str]

POSITIONS = ("start", "middle", "end")
ZERO_WIDTH = "\u200b\u200c\u200d\u2060"  # space, non-joiner, joiner, word joiner
_ZERO_WIDTH = re.compile(f"[{ZERO_WIDTH}]")
_SURROGATE = re.compile("[\ud800-\udfff]")
#: First word of a look-alike's Unicode name → the kind of disguise; a text is disguised in one kind.
_STYLES = {"CYRILLIC": "script", "GREEK": "script", "ARMENIAN": "script", "MATHEMATICAL": "mathematical"}
_INVERTIBLE_ANY = "every str"


@dataclass(frozen=True, slots=True)
class Attack:
    """One generator.

    Attributes:
        inverse: gives the text back, exactly, for every text in ``domain``; ValueError where its input was never
            the output of the attack and this shows. None: what the attack loses cannot be had back.
        label: the class of an *attack* under this transform.
        domain: the texts for which the inverse holds, in words; ``in_domain`` decides it.
    """

    name: str
    function: Transform
    inverse: Inverse | None
    citation: str
    label: Label
    domain: str
    in_domain: Callable[[str], bool]


ATTACKS: dict[str, Attack] = {}


def attack(
    name: str,
    citation: str,
    *,
    inverse: Inverse | None = None,
    label: Label = Label.OBFUSCATION,
    domain: str = _INVERTIBLE_ANY,
    in_domain: Callable[[str], bool] = lambda text: True,
) -> Callable[[Transform], Transform]:
    """Register the decorated function under ``name``; ValueError where the name is taken."""

    def register(function: Transform) -> Transform:
        if name in ATTACKS:
            raise ValueError(f"attack {name!r} is registered twice")
        ATTACKS[name] = Attack(name, function, inverse, citation, label, domain, in_domain)
        return function

    return register


def apply(name: str, text: str, rng: np.random.Generator) -> str:
    """``text`` under the attack ``name``; ValueError where there is no such attack."""
    if name not in ATTACKS:
        raise ValueError(f"attack {name!r} does not exist; expected one of {', '.join(ATTACKS)}")
    return ATTACKS[name].function(text, rng)


_FLIP = "Liu et al. 2024, FlipAttack: Jailbreak LLMs via Flipping, arXiv 2410.02832"


def reverse_inside_words(text: str) -> str:
    """``ab cd`` → ``ba dc``."""
    return " ".join(word[::-1] for word in text.split(" "))


def reverse_characters(text: str) -> str:
    """``ab cd`` → ``dc ba``, by code point."""
    return text[::-1]


@attack("flip_fwo", _FLIP, inverse=reverse_order)
def flip_word_order(text: str, rng: np.random.Generator) -> str:
    """FWO: flip the order of the words."""
    return reverse_order(text)


@attack("flip_fcw", _FLIP, inverse=reverse_inside_words)
def flip_characters_in_word(text: str, rng: np.random.Generator) -> str:
    """FCW: flip the characters of each word, the words keep their order."""
    return reverse_inside_words(text)


@attack("flip_fcs", _FLIP, inverse=reverse_characters)
def flip_characters_in_sentence(text: str, rng: np.random.Generator) -> str:
    """FCS: flip all characters."""
    return reverse_characters(text)


def from_base64(text: str) -> str:
    """The text that ``text`` encodes; ValueError where it is not base64 of UTF-8."""
    return base64.b64decode(text.encode("ascii"), validate=True).decode()


def encodable(text: str) -> bool:
    """Whether ``text`` has a UTF-8 form, that is, no lone surrogates."""
    return _SURROGATE.search(text) is None


@attack(
    "base64",
    "RFC 4648 §4; as a jailbreak: Wei et al. 2023, Jailbroken, arXiv 2307.02483",
    inverse=from_base64,
    domain="every str without lone surrogates",
    in_domain=encodable,
)
def to_base64(text: str, rng: np.random.Generator) -> str:
    """Base64 of the UTF-8 bytes, standard alphabet, padded."""
    return base64.b64encode(text.encode()).decode("ascii")


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
    "Unicode Technical Report 39, confusables; Boucher et al. 2022, Bad Characters, arXiv 2106.09898",
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
    "Boucher et al. 2022, Bad Characters, arXiv 2106.09898; Hackett et al. 2025, Bypassing Prompt Injection and "
    "Jailbreak Detection in LLM Guardrails, arXiv 2504.11168",
    inverse=without_zero_width,
    domain="every str without U+200B, U+200C, U+200D, U+2060",
    in_domain=lambda text: not any(char in ZERO_WIDTH for char in text),
)
def zero_width(text: str, rng: np.random.Generator) -> str:
    """A zero-width character after 30–100 % of the characters (after at least one)."""
    if not text:
        return text
    count = max(1, round(len(text) * rng.uniform(0.3, 1.0)))
    marked = set(rng.choice(len(text), size=count, replace=False).tolist())
    marks = rng.integers(0, len(ZERO_WIDTH), len(text))
    return "".join(char + ZERO_WIDTH[marks[place]] if place in marked else char for place, char in enumerate(text))


_BREAK = re.compile(r"(?<=[.!?。！？])\s+|\n+")


def compose(context: str, instruction: str, position: str, rng: np.random.Generator) -> str:
    """Indirect injection: ``instruction`` inside ``context`` at its start, middle or end, the way BIPIA puts it there.

    Middle: at the sentence or line break nearest to a random place in the middle half, else at a space.
    Source: Yi et al. 2023, Benchmarking and Defending Against Indirect Prompt Injection, arXiv 2312.14197.

    Raises:
        ValueError: ``position`` is none of POSITIONS.
    """
    if position not in POSITIONS:
        raise ValueError(f"position {position!r} does not exist; expected one of {', '.join(POSITIONS)}")
    joint = str(rng.choice(["\n", "\n\n", " "]))
    if position == "start":
        return instruction + joint + context
    if position == "end":
        return context + joint + instruction
    target = int(len(context) * rng.uniform(0.25, 0.75))
    breaks = [match.end() for match in _BREAK.finditer(context)]
    breaks = breaks or [match.end() for match in re.finditer(r"\s+", context)]
    place = min(breaks, key=lambda at: abs(at - target), default=target)
    return context[:place].rstrip() + joint + instruction + joint + context[place:].lstrip()


def excerpt(text: str, limit: int, rng: np.random.Generator) -> str:
    """At most ``limit`` characters of ``text``, from a random line or sentence on, cut between words."""
    if len(text) <= limit:
        return text
    starts = [0] + [match.end() for match in _BREAK.finditer(text) if match.end() <= len(text) - limit]
    start = starts[int(rng.integers(len(starts)))]
    cut = text[start : start + limit]
    if start + limit < len(text) and (space := max(cut.rfind(" "), cut.rfind("\n"))) > limit // 2:
        cut = cut[:space]
    return cut.strip()
