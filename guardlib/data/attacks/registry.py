"""Attack generators: a registry of functions ``(text, rng) -> text``, each with its citation and its inverse, if any.

A new attack is one function under :func:`attack`; training rows, the leakage check, tests and tables pick it up. The
same function makes attacks of attacks and benign rows of benign text: a trick says nothing about what it hides.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from guardlib.labels import Label

Transform = Callable[[str, np.random.Generator], str]
Inverse = Callable[[str], str]

#: Families of tricks: the order of words or characters, a code, characters exchanged or added, words misspelt; a prompt
#: around a hidden text that says how to read it; noise behind it.
KINDS = ("flip", "encoding", "characters", "wrapper", "suffix")
_INVERTIBLE_ANY = "every str"


@dataclass(frozen=True, slots=True)
class Attack:
    """One generator.

    Attributes:
        kind: one of KINDS.
        inverse: gives the text back, exactly, for every text in ``domain``; ValueError where its input was never
            the output of the attack and this shows. None: what the attack loses cannot be had back.
        label: the class of an *attack* under this transform.
        domain: the texts for which the inverse holds, in words; ``in_domain`` decides it.
        held_out: the same trick in words of its own that are for evaluation only; None: it adds no words.
    """

    name: str
    kind: str
    function: Transform
    inverse: Inverse | None
    citation: str
    label: Label
    domain: str
    in_domain: Callable[[str], bool]
    held_out: Transform | None = None


ATTACKS: dict[str, Attack] = {}


def attack(
    name: str,
    kind: str,
    citation: str,
    *,
    inverse: Inverse | None = None,
    label: Label = Label.OBFUSCATION,
    domain: str = _INVERTIBLE_ANY,
    in_domain: Callable[[str], bool] = lambda text: True,
    held_out: Transform | None = None,
) -> Callable[[Transform], Transform]:
    """Register the decorated function under ``name``; ValueError where the name is taken or the kind unknown."""

    def register(function: Transform) -> Transform:
        if name in ATTACKS:
            raise ValueError(f"attack {name!r} is registered twice")
        if kind not in KINDS:
            raise ValueError(f"attack {name!r} is of kind {kind!r}; expected one of {', '.join(KINDS)}")
        ATTACKS[name] = Attack(name, kind, function, inverse, citation, label, domain, in_domain, held_out)
        return function

    return register


def apply(name: str, text: str, rng: np.random.Generator, *, held_out: bool = False) -> str:
    """``text`` under the attack ``name``, in its held-out words where evaluation asks for them.

    Raises:
        ValueError: there is no such attack.
    """
    if name not in ATTACKS:
        raise ValueError(f"attack {name!r} does not exist; expected one of {', '.join(ATTACKS)}")
    entry = ATTACKS[name]
    return (entry.held_out if held_out and entry.held_out else entry.function)(text, rng)
