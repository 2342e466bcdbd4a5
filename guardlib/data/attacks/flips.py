"""FlipAttack: words or characters in reverse order."""

from __future__ import annotations

import numpy as np

from guardlib.data.attacks.registry import attack
from guardlib.text.word_order import reverse_order

_FLIP = "Liu et al. 2024, FlipAttack: Jailbreak LLMs via Flipping, arXiv 2410.02832"


def reverse_inside_words(text: str) -> str:
    """``ab cd`` → ``ba dc``."""
    return " ".join(word[::-1] for word in text.split(" "))


def reverse_characters(text: str) -> str:
    """``ab cd`` → ``dc ba``, by code point."""
    return text[::-1]


@attack("flip_fwo", "flip", _FLIP, inverse=reverse_order)
def flip_word_order(text: str, rng: np.random.Generator) -> str:
    """FWO: flip the order of the words."""
    return reverse_order(text)


@attack("flip_fcw", "flip", _FLIP, inverse=reverse_inside_words)
def flip_characters_in_word(text: str, rng: np.random.Generator) -> str:
    """FCW: flip the characters of each word, the words keep their order."""
    return reverse_inside_words(text)


@attack("flip_fcs", "flip", _FLIP, inverse=reverse_characters)
def flip_characters_in_sentence(text: str, rng: np.random.Generator) -> str:
    """FCS: flip all characters."""
    return reverse_characters(text)
