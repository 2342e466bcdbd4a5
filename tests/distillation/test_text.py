"""Pieces and aligned positions."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from guardlib.distillation.errors import PairError
from guardlib.distillation.objective import pool_attention, take
from guardlib.distillation.text import Pieces, open_text


def test_at_an_aligned_position_both_have_read_the_same(pieces, tokenizers):
    """Everything up to there, in both tokenizers, is the same text, but for what straddles the start."""
    teacher, student = tokenizers
    for piece in pieces.pieces[:8]:
        assert len(piece.student_at) > 3
        for ours, theirs in zip(piece.student_at, piece.teacher_at, strict=True):
            a, b = student.decode(piece.student[: ours + 1]), teacher.decode(piece.teacher[: theirs + 1])
            assert a.endswith(b)
            assert len(a) - len(b) < 20


def test_pieces_are_full_and_in_the_order_of_the_text(texts, tokenizers):
    """Nothing is lost between two pieces."""
    cut = Pieces.cut(texts, 24, tokenizers[1])
    assert {len(piece.student) for piece in cut.pieces} == {24}
    joined = tokenizers[1].decode(np.concatenate([piece.student for piece in cut.pieces]))
    assert "\n\n".join(texts).startswith(joined)
    assert sum(piece.characters for piece in cut.pieces) == len(joined)
    assert cut.aligned_share == 1.0  # one tokenizer: every token


def test_nothing_to_cut_is_refused(tokenizers):
    for texts in ([], ["too short"]):
        with pytest.raises(PairError, match=f"{len(texts)} texts hold .* expected at least one sequence of 24"):
            Pieces.cut(texts, 24, tokenizers[1])


def test_pooled_attention_rows_sum_to_one(pieces):
    """Each token's attention goes to exactly one segment, in both tokenizations."""
    batch = pieces.batch(range(5))
    for at, segment in ((batch.student_at, batch.student_segment), (batch.teacher_at, batch.teacher_segment)):
        length = segment.shape[1]
        causal = torch.randn(5, 3, length, length).masked_fill(~torch.ones(length, length).tril().bool(), -torch.inf)
        pooled = pool_attention(causal.softmax(-1), at, segment)
        assert torch.allclose(pooled.sum(-1), torch.ones_like(pooled.sum(-1)), atol=1e-5)
        size = at.shape[1]
        future = ~torch.ones(size, size).tril().bool() & batch.aligned[:, :, None]
        assert float(pooled.masked_select(future).abs().sum()) == pytest.approx(0, abs=1e-5)


def test_take_skips_padding(pieces):
    batch = pieces.batch(range(5))
    states = torch.arange(batch.teacher_ids.numel()).view(*batch.teacher_ids.shape, 1)
    assert len(take(states, batch.teacher_at, batch.aligned)) == int(batch.aligned.sum())


def test_only_text_that_people_wrote():
    rows = [("a", "dolly_2k", "en"), ("b", "obfuscated", "en"), ("c", "hard_negatives", "en"), ("d", "xquad", "de")]
    frame = pd.DataFrame(rows, columns=["text", "source", "lang"])
    assert open_text(frame) == ["a"]
    with pytest.raises(PairError, match="0 of 1 rows are open text"):
        open_text(frame.iloc[[1]])
