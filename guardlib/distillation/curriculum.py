"""What the student is asked for when: a pure function of progress.

====================  =============================================================
progress              what is learnt
====================  =============================================================
0 – 10 %              the teacher's answers (KD) and the text itself
10 – 40 %             and its features and attention, rising linearly
40 – 70 %             and its layers one by one, rising linearly
70 – 100 %            and which sequence is which (contrastive), rising linearly
====================  =============================================================
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

STARTS = {"feature": 0.1, "attention": 0.1, "layerwise": 0.4, "contrastive": 0.7}
_RAMP = 0.3  # of the run, from nothing to full


class Curriculum(NamedTuple):
    """Share in 0..1 of each part; ``kd`` is always whole."""

    kd: float
    feature: float
    attention: float
    layerwise: float
    contrastive: float


def curriculum(progress: float) -> Curriculum:
    """The shares at ``progress`` in 0..1.

    >>> curriculum(0.5).feature, round(curriculum(0.5).layerwise, 2), round(curriculum(0.8).contrastive, 2)
    (1.0, 0.33, 0.33)

    Raises:
        ValueError: progress outside 0..1.
    """
    if not 0 <= progress <= 1:
        raise ValueError(f"progress is {progress!r}; expected a share of the run between 0 and 1")
    return Curriculum(1.0, **{part: min(max((progress - start) / _RAMP, 0.0), 1.0) for part, start in STARTS.items()})


def table(points: int = 101) -> pd.DataFrame:
    """The shares over a whole run, for a figure: progress and a column per part."""
    rows = [{"progress": progress, **curriculum(progress)._asdict()} for progress in np.linspace(0, 1, points)]
    return pd.DataFrame(rows)
