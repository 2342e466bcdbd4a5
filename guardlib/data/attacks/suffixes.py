"""Suffixes that read as noise: what gradient search (GCG) and random search put behind a request.

Not found by a search, which would need the model under attack, but of the same looks: pieces of words, of code and of
markup, run together. Benign text gets them too, so what is learnt is what stands before the noise.
"""

from __future__ import annotations

import numpy as np

from guardlib.data.attacks.registry import attack

_GCG = "Zou et al. 2023, Universal and Transferable Adversarial Attacks on Aligned Language Models, arXiv 2307.15043"
# fmt: off
_START = (
    "de", "con", "re", "un", "ant", "per", "sim", "que", "ver", "tion", "al", "gor", "ith", "mus", "ten", "fort",
    "bra", "klar", "oppo", "rever", "tutor", "Sure", "Here", "Step", "Two", "One", "Now", "write", "then", "Expl",
    "table", "Answer", "using", "JSON", "def", "class", "return", "import", "main", "void", "print", "self", "null",
    "True", "var", "Int", "std", "http", "www", "html", "div", "span", "href", "begin", "end", "frac", "left",
    "text", "item", "usepackage", "SELECT", "FROM", "echo", "sudo", "grep",
)
_END = (
    "ing", "ed", "ly", "ness", "tion", "ment", "ably", "ENCE", "istic", "ize", "ous", "ward", "oid", "Face", "Text",
    "Line", "Type", "Name", "List", "./", ".*", "()", "[]", "{}", "<>", ";",
)
# fmt: on
_MARKS = (
    *"!?.,:;)]}>*#@%&|~^_=+-/\\\"'`$",
    "**",
    "))",
    "](",
    "{{",
    "}}",
    "\\n",
    "==",
    "!--",
    "...",
    "://",
    "[/",
    "\\\\",
)


@attack("adversarial_suffix", "suffix", _GCG)
def add_suffix(text: str, rng: np.random.Generator) -> str:
    """The text, and 12 to 30 pieces of noise behind it."""
    pieces = []
    for _ in range(int(rng.integers(12, 31))):
        kind = rng.random()
        piece = _MARKS[int(rng.integers(len(_MARKS)))] if kind < 0.35 else _START[int(rng.integers(len(_START)))]
        if 0.35 <= kind < 0.6:
            piece += _END[int(rng.integers(len(_END)))]
        pieces.append(piece.upper() if rng.random() < 0.08 else piece)
        pieces.append(" " if rng.random() < 0.6 else "")
    return f"{text} {''.join(pieces).strip()}"
