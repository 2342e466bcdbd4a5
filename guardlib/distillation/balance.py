"""Adaptive loss balancing: parts scaled to the size of a reference, by moving averages of their magnitudes."""

from __future__ import annotations


class LossBalancer:
    """``scale(name)`` brings a part to the size of ``reference``.

    An exponential moving average of each loss's magnitude, corrected for its start as in Adam (Kingma & Ba 2014, arXiv
    1412.6980, section 3). Scales stay in 0.1..10: balancing must not turn a part that has been learnt into noise.
    """

    LIMITS = (0.1, 10.0)

    def __init__(self, reference: str = "kd", decay: float = 0.98) -> None:
        self.reference, self.decay = reference, decay
        self.state: dict[str, list[float]] = {}  # name → [moving sum, its weight]; JSON, for checkpoints

    def update(self, values: dict[str, float]) -> None:
        """Take in the raw losses of one step."""
        for name, value in values.items():
            total, weight = self.state.get(name, (0.0, 0.0))
            self.state[name] = [
                self.decay * total + (1 - self.decay) * abs(value),
                self.decay * weight + 1 - self.decay,
            ]

    def magnitude(self, name: str) -> float | None:
        """Moving average of a part; None where it has not been seen."""
        total, weight = self.state.get(name, (0.0, 0.0))
        return total / weight if weight else None

    def scale(self, name: str) -> float:
        """Factor on a part: 1 for the reference, and until both have been seen."""
        own, wanted = self.magnitude(name), self.magnitude(self.reference)
        if not own or not wanted:
            return 1.0
        low, high = self.LIMITS
        return min(max(wanted / own, low), high)
