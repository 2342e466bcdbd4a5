"""TinyGuardrail's helper package. ``from guardlib import Guard`` needs numpy, onnxruntime and tokenizers only."""

from __future__ import annotations

__version__ = "0.1.0"
__all__ = ["Guard", "__version__"]


def __getattr__(name: str):
    """Import :class:`~guardlib.runtime.guard.Guard` on first use, so that ``import guardlib`` costs nothing."""
    if name == "Guard":
        from guardlib.runtime.guard import Guard

        return Guard
    raise AttributeError(f"module 'guardlib' has no attribute {name!r}; expected one of {', '.join(__all__)}")
