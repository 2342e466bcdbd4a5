"""Attack generators: a registry of functions ``(text, rng) -> text``, each with its citation and its inverse, if any.

A new attack is one function under :func:`attack`; training rows (but for one that is ``held_out``), the leakage check,
tests and tables pick it up. The same function makes attacks of attacks and benign rows of benign text: a trick says
nothing about what it hides.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from guardlib.labels import Label

Transform = Callable[[str, np.random.Generator], str]
Inverse = Callable[[str], str]

#: Families of tricks: the order of words or characters, a code, characters exchanged or added, words misspelt; a prompt
#: around a hidden text that says how to read it; noise behind it.
KINDS = ("flip", "encoding", "characters", "wrapper", "suffix")
#: Whose words a trick that adds words is told in: those of a split, or those that evaluation alone uses.
WORDINGS = ("train", "validation", "test", "held_out")
_INVERTIBLE_ANY = "every str"
NO_SURROGATES = "every str without lone surrogates"
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Attack:
    """One generator.

    Attributes:
        kind: one of KINDS.
        inverse: gives the text back, exactly, for every text in ``domain``; ValueError where its input was never
            the output of the attack and this shows. None: what the attack loses cannot be had back.
        label: the class of an *attack* under this transform.
        domain: the texts for which the inverse holds, in words; ``in_domain`` decides it.
        worded: the same trick in the words of each of WORDINGS after the first; empty: it adds no words.
        held_out: nothing is trained on it; benchmarks use it, and the leakage check undoes it.
    """

    name: str
    kind: str
    function: Transform
    inverse: Inverse | None
    citation: str
    label: Label
    domain: str
    in_domain: Callable[[str], bool]
    worded: Mapping[str, Transform] = field(default_factory=dict)
    held_out: bool = False


ATTACKS: dict[str, Attack] = {}


def encodable(text: str) -> bool:
    """Whether ``text`` has a UTF-8 form, that is, no lone surrogates."""
    return _SURROGATE.search(text) is None


def attack(
    name: str,
    kind: str,
    citation: str,
    *,
    inverse: Inverse | None = None,
    label: Label = Label.OBFUSCATION,
    domain: str = _INVERTIBLE_ANY,
    in_domain: Callable[[str], bool] = lambda text: True,
    worded: Mapping[str, Transform] | None = None,
    held_out: bool = False,
) -> Callable[[Transform], Transform]:
    """Register the decorated function under ``name``; ValueError where the name is taken or the kind unknown."""

    def register(function: Transform) -> Transform:
        if name in ATTACKS:
            raise ValueError(f"attack {name!r} is registered twice")
        if kind not in KINDS:
            raise ValueError(f"attack {name!r} is of kind {kind!r}; expected one of {', '.join(KINDS)}")
        ATTACKS[name] = Attack(
            name, kind, function, inverse, citation, label, domain, in_domain, worded or {}, held_out
        )
        return function

    return register


def apply(name: str, text: str, rng: np.random.Generator, *, wording: str = "train") -> str:
    """``text`` under the attack ``name``, told in the words of ``wording`` (one of WORDINGS) where it adds any.

    Raises:
        ValueError: there is no such attack or wording.
    """
    if name not in ATTACKS:
        raise ValueError(f"attack {name!r} does not exist; expected one of {', '.join(ATTACKS)}")
    if wording not in WORDINGS:
        raise ValueError(f"wording {wording!r} does not exist; expected one of {', '.join(WORDINGS)}")
    return ATTACKS[name].worded.get(wording, ATTACKS[name].function)(text, rng)
