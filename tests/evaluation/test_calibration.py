from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax
from sklearn.metrics import log_loss

from guardlib.evaluation.calibration import (
    TEMPERATURE_RANGE,
    calibrate_router,
    fit_temperature,
    share_at,
)
from guardlib.runtime.thresholds import threshold_at_fpr

from .rows import scores_and_labels


def _sampled(temperature: float, n: int = 4000):
    """Logits whose labels are drawn from softmax(logits / temperature)."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(n, 4)) * 3
    chances = softmax(logits / temperature, axis=-1)
    return logits, np.array([rng.choice(4, p=row) for row in chances])


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_temperature_is_found_again(temperature):
    logits, labels = _sampled(temperature)
    found = fit_temperature(logits, labels)
    assert found == pytest.approx(temperature, rel=0.08)

    def loss(t):
        return -log_softmax(logits / t[0], axis=1)[np.arange(len(labels)), labels].mean()

    assert found == pytest.approx(minimize(loss, [1.0], method="Nelder-Mead").x[0], rel=1e-2)
    assert log_loss(labels, softmax(logits / found, axis=-1)) <= log_loss(labels, softmax(logits, axis=-1)) + 1e-9


def test_temperature_changes_no_decision_and_stays_in_range():
    logits = np.eye(4)[[0, 1, 2, 3]] * 5
    found = fit_temperature(logits, np.arange(4))  # perfectly separated
    assert TEMPERATURE_RANGE[0] <= found <= TEMPERATURE_RANGE[1]
    assert (softmax(logits / found, axis=-1).argmax(1) == np.arange(4)).all()


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (np.zeros((3, 4)), np.zeros(2, int), r"shape \(3, 4\)"),
        (np.zeros((0, 4)), np.zeros(0, int), "N > 0"),
        (np.full((2, 4), np.nan), np.zeros(2, int), "NaN"),
        (np.zeros((2, 4)), np.array([0, 4]), "labels run from 0 to 4"),
    ],
)
def test_temperature_names_bad_input(logits, labels, message):
    with pytest.raises(ValueError, match=message):
        fit_temperature(logits, labels)


@given(scores_and_labels(both=False), st.floats(0, 1))
def test_threshold_keeps_the_rate_and_is_the_lowest(data, target):
    scores, labels = data
    threshold = threshold_at_fpr(scores, labels, target)
    benign = scores[labels == 0]
    assert (benign >= threshold).mean() <= target + 1e-9
    # Every lower threshold that decides any row otherwise would let more benign rows through than allowed.
    lower = [value for value in np.unique(scores) if value < threshold]
    flips_benign = [value for value in lower if (benign >= value).sum() > (benign >= threshold).sum()]
    if flips_benign:
        assert (benign >= max(flips_benign)).mean() > target - 1e-9
        assert max(flips_benign) == max(lower)
    else:
        assert not lower


def test_threshold_treats_ties_alike():
    scores, labels = np.array([0.1, 0.8, 0.8, 0.9, 0.95]), np.array([0, 0, 0, 1, 1])
    assert threshold_at_fpr(scores, labels, 0.34) == pytest.approx(0.85)  # one of the two 0.8 would be allowed: none is
    assert threshold_at_fpr(scores, labels, 0.67) == pytest.approx(0.45)
    assert threshold_at_fpr(scores, labels, 1.0) == 0.0
    assert threshold_at_fpr(np.array([1.0, 1.0]), np.array([0, 1]), 0.0) > 1.0


def test_threshold_names_bad_input():
    with pytest.raises(ValueError, match="no benign row"):
        threshold_at_fpr(np.array([0.5]), np.array([1]), 0.01)
    with pytest.raises(ValueError, match=r"rate is 1\.5"):
        threshold_at_fpr(np.array([0.5]), np.array([0]), 1.5)
    with pytest.raises(ValueError, match="NaN"):
        threshold_at_fpr(np.array([np.nan]), np.array([0]), 0.1)
    with pytest.raises(ValueError, match="shape"):
        threshold_at_fpr(np.array([0.1, 0.2]), np.array([0]), 0.1)


@given(st.lists(st.floats(-20, 20), min_size=1, max_size=80, unique=True), st.floats(0, 1))
def test_router_meets_the_budget_without_ties(scores, budget):
    scores = np.array(scores)
    share = share_at(scores, calibrate_router(scores, budget))
    assert abs(share - budget) <= 0.5 / len(scores) + 1e-9


@given(st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=60), st.floats(0, 1))
def test_router_is_as_near_as_ties_allow(scores, budget):
    scores = np.array(scores)
    possible = [0.0] + [(scores >= value).mean() for value in np.unique(scores)]
    share = share_at(scores, calibrate_router(scores, budget))
    assert abs(share - budget) == pytest.approx(min(abs(p - budget) for p in possible), abs=1e-12)


def test_router_survives_float32():
    scores = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    threshold = calibrate_router(scores, 0.3)
    assert (scores >= np.float32(threshold)).mean() == pytest.approx(0.3)


def test_router_names_bad_input():
    with pytest.raises(ValueError, match=r"budget is 1\.2"):
        calibrate_router(np.array([0.0]), 1.2)
    with pytest.raises(ValueError, match="NaN"):
        calibrate_router(np.array([np.nan]), 0.3)
    with pytest.raises(ValueError, match="N > 0"):
        calibrate_router(np.array([]), 0.3)
