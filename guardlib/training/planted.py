"""Which words of a document were planted in it: what an attack has that its benign twin has not.

A label per text says that something in it is wrong; of a document it costs many to learn what. The generated ones are
known to the word (:mod:`guardlib.data.indirect`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from guardlib.data.indirect import INDIRECT, shared_ends
from guardlib.labels import Label
from guardlib.text.reading import Window

UNKNOWN = -1
_LEAST_SHARED = 0.25  # of an attack, what its twin repeats of it; less: that twin was set aside, and this is another


def planted_spans(frame: pd.DataFrame) -> dict[int, tuple[int, int]]:
    """Start and stop of what is planted in generated documents, by row number; (0, 0) where nothing is.

    Documents without a twin that repeats what is around the planted words are left out.
    """
    frame = frame.reset_index(drop=True)
    documents = frame[frame["source"] == INDIRECT]
    benign = documents["label"] == Label.BENIGN
    spans = dict.fromkeys(documents.index[benign].tolist(), (0, 0))
    twins = {group: rows["text"].tolist() for group, rows in documents[benign].groupby("group")}
    for row, text, group in documents.loc[~benign, ["text", "group"]].itertuples():
        ends = [shared_ends(text, twin) for twin in twins.get(group, ())]
        before, after = max(ends, key=sum, default=(0, 0))
        if before + after >= _LEAST_SHARED * len(text):
            spans[row] = (before, max(len(text) - after, before))
    return spans


def planted_tokens(
    windows: Sequence[Window], spans: Sequence[tuple[int, int] | None], texts: Sequence[str], length: int
) -> np.ndarray:
    """Of each token whether it was planted, int8 [B, ``length``]: 1, 0, or UNKNOWN, as special tokens are.

    Args:
        spans: start and stop in each of ``texts``; None where that is not known. Nor is it where a window reads
            another view than the text as it stands.
    """
    marks = np.full((len(windows), length), UNKNOWN, np.int8)
    for row, (window, span, text) in enumerate(zip(windows, spans, texts, strict=True)):
        if span is None or window.view.text != text:
            continue
        starts, stops = window.pieces.spans[window.start : window.stop].T
        first = 1 + window.view.hidden
        marks[row, first : first + len(starts)] = (starts < span[1]) & (stops > span[0])
    return marks
