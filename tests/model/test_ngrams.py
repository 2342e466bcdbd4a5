"""The n-gram head."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from guardlib.config import ConfigError
from guardlib.model.dual_branch import check_model_config
from guardlib.model.ngrams import NgramHead
from guardlib.text.tokenizer import CLS, HIDDEN, PAD, SEP
from tests.helpers import TINY

VOCAB, BUCKETS = 50, 300


def make_head(seed: int = 0) -> NgramHead:
    head = NgramHead(BUCKETS, VOCAB, 4)
    generator = torch.Generator().manual_seed(seed)
    head.table.normal_(generator=generator)
    head.bias.normal_(generator=generator)
    head.weight.fill_(0.7)
    return head


def by_hand(head: NgramHead, ids: list[int]) -> np.ndarray:
    """The same, one n-gram at a time."""
    rows = [i for i in ids if i > HIDDEN]
    rows += [
        VOCAB + (a * 48_271 + b * 69_621) % (BUCKETS - VOCAB) for a, b in itertools.pairwise(ids) if min(a, b) > HIDDEN
    ]
    total = sum((head.table[row] for row in rows), torch.zeros(4))
    return (total / max(len(rows), 1) ** 0.5 + head.bias).numpy() * 0.7


@given(st.lists(st.lists(st.integers(0, VOCAB - 1), min_size=1, max_size=9), min_size=1, max_size=4))
def test_logits_are_the_sum_of_rows_over_the_root_of_their_number(texts):
    head, longest = make_head(), max(map(len, texts))
    padded = torch.tensor([ids + [PAD] * (longest - len(ids)) for ids in texts])
    np.testing.assert_allclose(head(padded).numpy(), [by_hand(head, ids) for ids in texts], atol=1e-5)


def test_order_matters_and_special_pieces_say_nothing():
    head = make_head()
    plain, framed, turned = (
        head(torch.tensor([ids])) for ids in ([7, 8, 9], [CLS, HIDDEN, 7, 8, 9, SEP, PAD], [9, 8, 7])
    )
    torch.testing.assert_close(plain, framed)
    assert (plain - turned).abs().max() > 1e-3


def test_nothing_is_said_before_the_fit_nor_after_it_is_undone():
    head = make_head()
    head.forget()
    ids = torch.tensor([[7, 8, 9]])
    assert not head(ids).any()
    assert not NgramHead(BUCKETS, VOCAB, 4)(ids).any()
    assert not list(head.parameters())  # no gradient ever trains it


@pytest.mark.parametrize(
    "setting",
    [
        {"ngram_rows": 2 * TINY.vocab_size - 1},
        {"learnt_pieces": TINY.ngram_rows // 2},
        {"ngram_weight": -0.1},
        {"ngram_weight": float("nan")},
    ],
)
def test_settings_that_cannot_be_are_named(setting):
    with pytest.raises(ConfigError, match=next(iter(setting))):
        check_model_config(dataclasses.replace(TINY, **setting))
