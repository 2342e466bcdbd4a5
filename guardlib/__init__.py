"""TinyGuardrail's helper package. ``from guardlib import Guard`` needs numpy, onnxruntime and tokenizers only."""

from __future__ import annotations

__version__ = "0.1.0"
__all__ = ["Guard", "GuardLoadError", "Verdict", "__version__"]


def __getattr__(name: str):
    """What :mod:`guardlib.runtime.guard` defines is imported on first use: ``import guardlib`` costs nothing."""
    if name in __all__:
        from guardlib.runtime import guard

        return getattr(guard, name)
    raise AttributeError(f"module 'guardlib' has no attribute {name!r}; expected one of {', '.join(__all__)}")
