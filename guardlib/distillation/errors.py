"""What can be wrong with a distillation; each message names the value, what was expected and what to do."""

from __future__ import annotations


class PairError(ValueError):
    """A teacher, a student and a text that cannot be matched; raised before training starts."""


class DistillationError(RuntimeError):
    """Training cannot go on; the message says which loss, and where it stood."""
