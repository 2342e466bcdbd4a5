"""Experts that weigh alike: what the last bit decides is bounded as all else is."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from guardlib.export import parity
from guardlib.export.parity import other_choice
from guardlib.model.inference import score_windows
from tests import tiny_guard
from tests.helpers import make_model, make_reader

TEXTS = list(tiny_guard.TEXTS)


def deep_logits(model):
    return score_windows(model, make_reader(), TEXTS, 512).deep_logits


@pytest.fixture
def model():
    return make_model().eval()


def test_where_nothing_is_tied_the_other_choice_is_the_same(model):
    before = deep_logits(model)
    with other_choice(model):
        np.testing.assert_array_equal(deep_logits(model), before)
    np.testing.assert_array_equal(deep_logits(model), before)


def test_the_other_choice_of_two_that_weigh_alike_is_the_other_expert(model):
    for layer in model.deep.layers:
        gate = layer.experts.gate.weight
        with torch.no_grad():
            gate[1] = gate[0]
    before = deep_logits(model)
    with other_choice(model):
        other = deep_logits(model)
    assert (other != before).any()
    for layer in model.deep.layers:
        experts = layer.experts.experts
        experts[0], experts[1] = experts[1], experts[0]
    np.testing.assert_allclose(other, deep_logits(model), atol=1e-6)


def test_either_choice_counts_and_anything_else_is_off(model):
    scores = score_windows(model, make_reader(), TEXTS, 512)
    other = scores.deep_logits + np.array([0.5, 0, 0, 0], np.float32)
    swapped = dataclasses.replace(scores, deep_logits=other)
    calibration = parity.Calibration()
    assert parity._compare(scores, swapped, calibration)["max_dp_deep"] > 1e-3
    explained = parity._compare(scores, swapped, calibration, other)
    assert explained["max_dp_deep"] == 0
    assert explained["ties"] == len(scores.windows)
    off = dataclasses.replace(scores, deep_logits=other + np.eye(4, dtype=np.float32)[1])
    assert parity._compare(scores, off, calibration, other)["max_dp_deep"] > 1e-3
