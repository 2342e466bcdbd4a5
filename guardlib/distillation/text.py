"""Open text as batches that teacher and student read side by side.

Both tokenizers cut the same characters. Where a student's token and a teacher's token end at the same character, the
two have read the same text and can be compared: these are the *aligned positions*. Between two of them lies a
*segment*, to which attention is summed. With one tokenizer for both, every token is its own segment.

Legend: B sequences, L tokens, S aligned positions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from guardlib.data.generated import MADE
from guardlib.distillation.errors import PairError
from guardlib.labels import ENGLISH

_GAP = "\n\n"  # between texts of the stream
_CHUNK = 2000  # texts tokenized at once


def open_text(records: pd.DataFrame) -> list[str]:
    """Texts that people wrote, in English or of no stated language: what a language model is trained on.

    Rows that this package composed or encoded are left out. Raises PairError where nothing is left.
    """
    written = ~records["source"].isin(MADE) & records["lang"].isin(ENGLISH)
    texts = records.loc[written, "text"].tolist()
    if not texts:
        raise PairError(f"0 of {len(records)} rows are open text; expected some: run 01 again with other data (--data)")
    return texts


class Stream(NamedTuple):
    """All texts as one run of tokens: ``ids`` int64 [N], ``ends`` int64 [N] (characters, over the whole stream)."""

    ids: np.ndarray
    ends: np.ndarray


def tokenize(texts: Sequence[str], tokenizer) -> Stream:
    """One stream of ``texts``. Raises PairError for a tokenizer that cannot say which characters a token covers."""
    if not tokenizer.is_fast:
        raise PairError(f"tokenizer {type(tokenizer).__name__} has no offsets; expected a fast one (tokenizer.json)")
    ids, ends, start = [], [], 0
    for first in range(0, len(texts), _CHUNK):
        chunk = [text + _GAP for text in texts[first : first + _CHUNK]]
        encoded = tokenizer(chunk, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        for text, tokens, offsets in zip(chunk, encoded["input_ids"], encoded["offset_mapping"], strict=True):
            ids.append(np.asarray(tokens, np.int64))
            ends.append(np.asarray(offsets, np.int64).reshape(-1, 2)[:, 1] + start)
            start += len(text)
    return (
        Stream(np.concatenate(ids), np.concatenate(ends))
        if ids
        else Stream(np.zeros(0, np.int64), np.zeros(0, np.int64))
    )


class Piece(NamedTuple):
    """A stretch of text: student ids [L], teacher ids [L'], the aligned positions in each [S], its characters."""

    student: np.ndarray
    teacher: np.ndarray
    student_at: np.ndarray
    teacher_at: np.ndarray
    characters: int


class Batch(NamedTuple):
    """Tensors of B pieces. ``*_at`` [B, S] positions, ``aligned`` bool [B, S] which are real, ``*_segment`` [B, L]."""

    student_ids: Tensor
    student_mask: Tensor
    teacher_ids: Tensor
    teacher_mask: Tensor
    student_at: Tensor
    teacher_at: Tensor
    aligned: Tensor
    student_segment: Tensor
    teacher_segment: Tensor
    characters: Tensor

    def to(self, device: torch.device | str) -> Batch:
        """The same on ``device``."""
        return Batch(*(tensor.to(device) for tensor in self))


def leading_ids(tokenizer) -> list[int]:
    """What the tokenizer puts before every text: the start token of those models that were trained with one."""
    bos = tokenizer.bos_token_id
    return [bos] if bos is not None and tokenizer("", verbose=False)["input_ids"][:1] == [bos] else []


@dataclass(frozen=True, slots=True)
class Pieces:
    """A text cut for one pair. Without a teacher's tokenizer (training alone) its side repeats the student's."""

    pieces: tuple[Piece, ...]

    @classmethod
    def cut(cls, texts: Sequence[str], length: int, student, teacher=None) -> Pieces:
        """Pieces of exactly ``length`` student tokens; what is left at the end is dropped.

        Raises:
            PairError: no whole piece.
        """
        first = leading_ids(student)
        room = length - len(first)
        stream = tokenize(texts, student)
        count = len(stream.ids) // max(room, 1)
        if count == 0 or room < 2:
            raise PairError(
                f"{len(texts)} texts hold {len(stream.ids)} tokens; expected at least one sequence of {length}: "
                "give more text or lower max_length"
            )
        other = stream if teacher is None or teacher is student else tokenize(texts, teacher)
        lead = first if other is stream else leading_ids(teacher)
        return cls(tuple(_piece(stream, other, n * room, (n + 1) * room, first, lead) for n in range(count)))

    def __len__(self) -> int:
        return len(self.pieces)

    def sample(self, count: int) -> Pieces:
        """At most ``count``, evenly from all: neighbours are of one text, and a few long texts would be all of them."""
        if count >= len(self):
            return self
        return Pieces(tuple(self.pieces[place * len(self) // count] for place in range(count)))

    @property
    def longest(self) -> tuple[int, int]:
        """Longest sequence of student and of teacher, in tokens."""
        return max(len(p.student) for p in self.pieces), max(len(p.teacher) for p in self.pieces)

    @property
    def teacher_ids(self) -> np.ndarray:
        """All teacher tokens, int64 [N]."""
        return np.concatenate([piece.teacher for piece in self.pieces])

    @property
    def aligned_share(self) -> float:
        """Student tokens at which the teacher can be heard."""
        return sum(len(p.student_at) for p in self.pieces) / sum(len(p.student) for p in self.pieces)

    def batch(self, rows: Sequence[int]) -> Batch:
        """The pieces ``rows``, padded to the longest."""
        chosen = [self.pieces[row] for row in rows]
        student_ids, student_mask = _pad([p.student for p in chosen])
        teacher_ids, teacher_mask = _pad([p.teacher for p in chosen])
        student_at, aligned = _pad([p.student_at for p in chosen])
        teacher_at, _ = _pad([p.teacher_at for p in chosen])
        return Batch(
            student_ids, student_mask, teacher_ids, teacher_mask, student_at, teacher_at, aligned.bool(),
            _segments(student_at, aligned, student_ids.shape[1]), _segments(teacher_at, aligned, teacher_ids.shape[1]),
            torch.tensor([p.characters for p in chosen]),
        )  # fmt: skip

    def batches(self, size: int, rng: np.random.Generator | None = None) -> Iterator[Batch]:
        """All pieces once, in batches of ``size``: shuffled by ``rng``, or in order with a smaller one at the end."""
        order = np.arange(len(self)) if rng is None else rng.permutation(len(self))
        for start in range(0, len(order), size):
            yield self.batch(order[start : start + size])


def _piece(stream: Stream, other: Stream, start: int, stop: int, first: list[int], lead: list[int]) -> Piece:
    """Student tokens ``start:stop`` and the teacher tokens that lie within the same characters."""
    left, right = int(stream.ends[start - 1]) if start else 0, int(stream.ends[stop - 1])
    student_ends = stream.ends[start:stop]
    if other is stream:
        low, high = start, stop
    else:
        low, high = (int(np.searchsorted(other.ends, end, side="right")) for end in (left, right))
        low += left > (other.ends[low - 1] if low else 0)  # a teacher token that straddles the start is left out
    teacher_ends = other.ends[low:high]
    shared = np.intersect1d(student_ends, teacher_ends)
    return Piece(
        np.concatenate([np.asarray(first, np.int64), stream.ids[start:stop]]),
        np.concatenate([np.asarray(lead, np.int64), other.ids[low:high]]),
        # of several tokens that end at one character (the bytes of a letter) the last has read all of it
        np.searchsorted(student_ends, shared, side="right") - 1 + len(first),
        np.searchsorted(teacher_ends, shared, side="right") - 1 + len(lead),
        right - left,
    )


def _pad(rows: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
    """Rows as one int64 tensor padded with 0, and its mask."""
    length = max(max(map(len, rows)), 1)
    values, mask = torch.zeros(len(rows), length, dtype=torch.int64), torch.zeros(len(rows), length, dtype=torch.int64)
    for number, row in enumerate(rows):
        values[number, : len(row)] = torch.from_numpy(row)
        mask[number, : len(row)] = 1
    return values, mask


def _segments(at_BS: Tensor, aligned_BS: Tensor, length: int) -> Tensor:
    """For each token the first aligned position at or after it, [B, L]; S − 1 for those after the last."""
    ends = at_BS.masked_fill(aligned_BS == 0, length)
    tokens = torch.arange(length).expand(len(at_BS), length).contiguous()
    return torch.searchsorted(ends, tokens).clamp(max=at_BS.shape[1] - 1)
