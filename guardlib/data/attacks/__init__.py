"""Attack generators. Importing this package fills the registry."""

from guardlib.data.attacks import flips, suffixes, unmet, wrappers  # noqa: F401 (they register their attacks)
from guardlib.data.attacks.characters import ZERO_WIDTH
from guardlib.data.attacks.compose import POSITIONS, compose, excerpt
from guardlib.data.attacks.encodings import from_base64
from guardlib.data.attacks.registry import ATTACKS, KINDS, WORDINGS, Attack, apply, attack

__all__ = [
    "ATTACKS",
    "KINDS",
    "POSITIONS",
    "WORDINGS",
    "ZERO_WIDTH",
    "Attack",
    "apply",
    "attack",
    "compose",
    "excerpt",
    "from_base64",
]
