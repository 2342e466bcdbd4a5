"""Loss balancing by moving averages."""

from __future__ import annotations

import json

import pytest

from guardlib.distillation.balance import LossBalancer


def test_average_by_hand():
    """First value as it is (the start is corrected), then decay: (0.5·0.5·4 + 0.5·8) / (0.25 + 0.5)."""
    balancer = LossBalancer(decay=0.5)
    balancer.update({"kd": 4.0})
    assert balancer.magnitude("kd") == pytest.approx(4)
    balancer.update({"kd": -8.0})
    assert balancer.magnitude("kd") == pytest.approx((0.25 * 4 + 0.5 * 8) / 0.75)


def test_parts_come_to_the_size_of_the_reference_within_limits():
    balancer = LossBalancer()
    assert balancer.scale("feature") == 1
    balancer.update({"kd": 2.0, "feature": 4.0, "attention": 1e6, "layerwise": 1e-6})
    scales = [balancer.scale(part) for part in ("kd", "feature", "attention", "layerwise")]
    assert scales == pytest.approx([1, 0.5, 0.1, 10])


def test_state_is_json():
    balancer, other = LossBalancer(), LossBalancer()
    balancer.update({"kd": 2.0, "feature": 4.0})
    other.state = json.loads(json.dumps(balancer.state))
    assert other.scale("feature") == balancer.scale("feature")
