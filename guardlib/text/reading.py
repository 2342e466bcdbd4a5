"""How a text is read: unfolded into views, cut into windows, batched by length, and judged by its worst window.

The torch model and the ONNX guard share this file, so that what was measured is what is released. Torch-free.

Legend: N texts, W windows (W >= N), B windows in a batch, L tokens, C characters per token, K classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from guardlib.text.tokenizer import CLS, HIDDEN, SEP, GuardTokenizer, Pieces
from guardlib.text.views import RAW, Unfolder, View

OVERLAP = 0.25  # share of a window that the next one repeats, so that no attack is cut in two
#: Of one batch: activations of more do not stay in a CPU's cache, and are read more slowly.
TOKENS_PER_BATCH = 512


@dataclass(frozen=True, slots=True)
class Window:
    """Tokens ``start:stop`` of one view of text number ``text``."""

    text: int
    view: View
    pieces: Pieces
    start: int
    stop: int

    def __len__(self) -> int:
        """Tokens including [CLS], [SEP] and the [HIDDEN] marker."""
        return self.stop - self.start + 2 + self.view.hidden

    @property
    def reading(self) -> tuple[int, int]:
        """Which text it is of, in which of its views: of one text two may have the same name."""
        return self.text, id(self.pieces)

    @property
    def span(self) -> tuple[int, int]:
        """Character offsets of the window in its view's text."""
        if self.stop == self.start:
            return (0, 0)
        return int(self.pieces.spans[self.start, 0]), int(self.pieces.spans[self.stop - 1, 1])


@dataclass(frozen=True, slots=True)
class Batch:
    """Arrays for the model: ``input_ids`` and ``attention_mask`` int64 [B, L], ``char_ids`` int64 [B, L, C]."""

    input_ids: np.ndarray
    char_ids: np.ndarray
    attention_mask: np.ndarray


class Reader:
    """Texts → windows → batches. ``max_length`` counts every token; ``unfolder`` None reads texts as they are."""

    def __init__(self, tokenizer: GuardTokenizer, unfolder: Unfolder | None, max_length: int) -> None:
        if max_length < 4:
            raise ValueError(
                f"max_length is {max_length}; expected at least 4: three special tokens and one of the text"
            )
        self.tokenizer = tokenizer
        self.unfolder = unfolder
        self.max_length = max_length

    def views(self, text: str) -> list[View]:
        """The views of ``text`` that are read."""
        return self.unfolder.views(text) if self.unfolder else [View(RAW, text, False)]

    def windows(self, texts: Sequence[str]) -> list[Window]:
        """Every window of every view of every text, in order of text."""
        owners, views = [], []
        for index, text in enumerate(texts):
            for view in self.views(text):
                owners.append(index)
                views.append(view)
        pieces = self.tokenizer.encode([view.text for view in views])
        return [
            Window(owner, view, piece, start, stop)
            for owner, view, piece in zip(owners, views, pieces, strict=True)
            for start, stop in self.cuts(len(piece), view.hidden)
        ]

    def room(self, hidden: bool) -> int:
        """Tokens of a text that one window holds, beside [CLS], [SEP] and the [HIDDEN] marker."""
        return self.max_length - 2 - hidden

    def cuts(self, tokens: int, hidden: bool) -> Iterator[tuple[int, int]]:
        """``start, stop`` of the windows over ``tokens`` tokens: as few as will do, of one length, evenly spaced.

        Each shares at least OVERLAP of a full window, rounded down, with the next. A text just too long for one window
        is read in two of little more than half its length, not in two full ones.
        """
        room = self.room(hidden)
        shared = int(room * OVERLAP)
        count = max(-(-(tokens - shared) // (room - shared)), 1)
        length = -(-(tokens + (count - 1) * shared) // count)
        for number in range(count):
            start = number * (tokens - length) // max(count - 1, 1)
            yield start, start + length

    def collate(self, windows: Sequence[Window], length: int = 0) -> Batch:
        """Pad windows to the longest of them, or to ``length`` tokens where that is more."""
        length = max([length, *map(len, windows)])
        input_ids = np.zeros((len(windows), length), np.int64)
        char_ids = np.zeros((len(windows), length, self.tokenizer.chars_per_token), np.int64)
        attention_mask = np.zeros((len(windows), length), np.int64)
        for row, window in enumerate(windows):
            first = 1 + window.view.hidden
            last = first + window.stop - window.start
            input_ids[row, 0] = CLS
            if window.view.hidden:
                input_ids[row, 1] = HIDDEN
            input_ids[row, first:last] = window.pieces.ids[window.start : window.stop]
            input_ids[row, last] = SEP
            char_ids[row, first:last] = window.pieces.char_ids[window.start : window.stop]
            attention_mask[row, : last + 1] = 1
        return Batch(input_ids, char_ids, attention_mask)


def distinct_windows(windows: Sequence[Window]) -> tuple[list[Window], np.ndarray]:
    """Windows that read the same to the model, once each, and for every window its place among them, int64 [W].

    A text under twenty transforms unfolds to the same text twenty times; a document repeats its passages.
    """
    found: dict[tuple, int] = {}
    kept, places = [], np.zeros(len(windows), np.int64)
    for index, window in enumerate(windows):
        part = slice(window.start, window.stop)
        key = (window.view.hidden, window.pieces.ids[part].tobytes(), window.pieces.char_ids[part].tobytes())
        places[index] = found.setdefault(key, len(kept))
        if places[index] == len(kept):
            kept.append(window)
    return kept, places


def batches_by_length(lengths: Sequence[int], tokens_per_batch: int) -> Iterator[np.ndarray]:
    """Indices grouped so that padded batches hold at most ``tokens_per_batch`` tokens (a longer text stands alone)."""
    order = np.argsort(np.asarray(lengths), kind="stable")
    start = 0
    for position in range(1, len(order) + 1):
        if position == len(order) or (position - start + 1) * lengths[order[position]] > tokens_per_batch:
            yield order[start:position]
            start = position


def worst_window(windows: Sequence[Window], attack_scores: np.ndarray, texts: int) -> np.ndarray:
    """For each text the index of its window with the highest attack score [W] → int64 [N]; the first wins a tie."""
    scores = attack_scores.tolist()  # one text has a window or two: a loop is faster than sorting arrays
    worst = [-1] * texts
    for index, window in enumerate(windows):
        if worst[window.text] < 0 or scores[index] > scores[worst[window.text]]:
            worst[window.text] = index
    if -1 in worst:
        covered = texts - worst.count(-1)
        raise ValueError(f"windows cover {covered} of {texts} texts; expected each text to have at least one")
    return np.array(worst, np.int64)
