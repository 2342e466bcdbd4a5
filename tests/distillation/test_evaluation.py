"""Perplexity, retention, sizes and the statistics over seeds."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import entropy

from guardlib.distillation.evaluation import (
    _compare,
    compression,
    perplexity,
    retention,
    summarise,
    verdict,
)
from guardlib.distillation.pair import match
from guardlib.distillation.text import Pieces
from guardlib.evaluation.metrics import mean_interval


def test_a_model_that_knows_nothing_has_the_vocabularys_perplexity(student, pieces):
    for parameter in student.model.parameters():
        torch.nn.init.zeros_(parameter)
    found = perplexity(student, pieces)
    assert found.perplexity == pytest.approx(320, rel=1e-4)
    characters = sum(piece.characters for piece in pieces.pieces)
    assert found.tokens == len(pieces) * 23
    assert found.bits_per_character == pytest.approx(found.tokens * math.log2(320) / characters, rel=1e-4)


def test_a_model_retains_all_of_itself_and_little_of_another(student, teacher, settled, pieces, texts):
    own = Pieces.cut(texts, 24, student.tokenizer).sample(4)
    kept = retention(student, student, match(student, student, own), own)
    assert kept.kl == pytest.approx(0, abs=1e-5)
    assert (kept.top1, kept.top5) == (1, 1)
    assert kept.attention == pytest.approx(1, abs=1e-5)
    apart = retention(teacher, student, settled, pieces.sample(4))
    assert apart.kl > 0.1
    assert apart.top1 < 0.5
    assert 0 < apart.attention < 0.99


def test_retention_of_a_position_by_hand():
    """KL is of the teacher's tokens; of the five likeliest, 3 … 7 and 0 … 4, two are the same."""
    teacher, student = torch.arange(8.0)[None], -torch.arange(8.0)[None] / 2
    kl = entropy(teacher.softmax(-1)[0], student.softmax(-1)[0])
    assert _compare(teacher, student)[0].tolist() == pytest.approx([kl, 0, 2 / 5], rel=1e-4)


def test_sizes(teacher, student, pieces):
    table = compression(teacher, student, pieces, repeats=1).set_index("model")
    assert table.loc["student", "parameters"] == sum(p.numel() for p in student.model.parameters())
    assert table.loc["teacher", "bytes"] == 4 * table.loc["teacher", "parameters"]
    assert table.loc["student", "parameters_ratio"] > 1
    assert (table["ms_per_sequence"] > 0).all()


def test_interval_by_hand():
    """t(0.975, 2) = 4.303; the standard error of 1, 2, 3 is 1 / √3."""
    mean, low, high = mean_interval(np.array([1.0, 2.0, 3.0]))
    assert (mean, high - mean, mean - low) == pytest.approx(
        (2.0, 4.3027 / math.sqrt(3), 4.3027 / math.sqrt(3)), rel=1e-4
    )
    assert mean_interval(np.array([5.0])) == (5.0, -np.inf, np.inf)


def runs(**by_recipe) -> pd.DataFrame:
    rows = [(name, seed, value) for name, values in by_recipe.items() for seed, value in enumerate(values)]
    return pd.DataFrame(rows, columns=["recipe", "seed", "perplexity"])


def test_verdict_says_what_the_figures_say():
    """Seeds differ far more than recipes; only the paired difference can tell."""
    table = summarise(
        runs(alone=[51.0, 71.2, 90.9], plain_kd=[48, 70, 92.0], worse=[49, 69, 88.8], routed=[50, 70, 90.0])
    )
    assert table.set_index("recipe").loc["alone", "difference"] == pytest.approx((1 + 1.2 + 0.9) / 3)
    lines = verdict(table).splitlines()
    assert lines[0].startswith("The routed student beats alone: alone is +1.03 [")
    assert lines[1].startswith("No difference shown between the routed student and plain_kd")
    assert lines[2].startswith("The routed student loses to worse")
