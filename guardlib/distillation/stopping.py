"""When to stop: no improvement worth the name for a number of evaluations, and never in the first steps."""

from __future__ import annotations

import dataclasses
import math


@dataclasses.dataclass
class EarlyStopping:
    """Counts evaluations since the loss last fell by ``min_delta``; JSON through ``dataclasses.asdict``.

    How far it fell matters for patience alone: the best weights are those of the lowest loss.

    Evaluations in the first ``warmup`` optimizer steps set the best loss but do not count against it: a student that is
    still warming up, or is met by the next part of the curriculum, has not stopped learning.
    """

    patience: int = 20
    min_delta: float = 0.001
    warmup: int = 1000
    best: float = math.inf
    bad: int = 0
    lowest: float = math.inf

    def update(self, loss: float, step: int) -> bool:
        """Take in one evaluation at optimizer step ``step``; whether it is the lowest so far."""
        lowest = loss < self.lowest
        self.lowest = min(loss, self.lowest)
        if loss < self.best - self.min_delta:
            self.best, self.bad = loss, 0
        elif step >= self.warmup:
            self.bad += 1
        return lowest

    @property
    def stop(self) -> bool:
        """Whether patience is at its end; 0 means endless patience."""
        return bool(self.patience) and self.bad >= self.patience
