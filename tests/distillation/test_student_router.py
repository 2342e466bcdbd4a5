"""The student-aware router, and the teacher's experts it chooses from."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from guardlib.distillation.experts import ExpertProbe, expert_layers
from guardlib.distillation.objective import Teacher
from guardlib.distillation.student_router import (
    HISTORY,
    Capacity,
    collapse_report,
    effective_rank,
    experts_at,
    knowledge_gap,
    route,
    temperature_at,
)


@given(
    seed=st.integers(0, 2**31),
    experts=st.integers(1, 9),
    capacity=st.floats(0, 1),
    progress=st.floats(0, 1),
    sharpness=st.sampled_from([0.0, 1.0, 80.0]),
)
def test_weights_are_distributions_over_at_most_the_allowed_experts(seed, experts, capacity, progress, sharpness):
    """Throughout the run, for sharp gates and even ones, and for gaps that are all the same."""
    rng = torch.Generator().manual_seed(seed)
    gate = (sharpness * torch.randn(7, experts, generator=rng)).softmax(-1)
    gap = torch.rand(7, experts, generator=rng) if sharpness else torch.full((7, experts), 0.5)
    routing = route(gate, gap, capacity, progress)
    assert torch.isfinite(routing.weight).all()
    assert (routing.weight >= 0).all()
    assert torch.allclose(routing.weight.sum(-1), torch.ones(7), atol=1e-5)
    assert ((routing.weight > 0).sum(-1) <= experts_at(progress, experts)).all()


def test_from_one_expert_to_four_while_the_temperature_falls():
    assert [experts_at(p, 8) for p in (0, 0.24, 0.25, 0.5, 0.75, 1)] == [1, 1, 2, 3, 4, 4]
    assert experts_at(1.0, 2) == 2
    temperatures = [temperature_at(p) for p in np.linspace(0, 1, 11)]
    assert temperatures == sorted(temperatures, reverse=True)
    assert (temperatures[0], temperatures[-1]) == pytest.approx((2.0, 0.5))


def test_little_capacity_takes_the_nearest_expert_much_the_farthest():
    """With a gate that has no opinion."""
    gate, gap = torch.full((1, 3), 1 / 3), torch.tensor([[0.4, 0.1, 0.8]])
    assert route(gate, gap, capacity=0.0, progress=0.0).weight.argmax() == 1
    assert route(gate, gap, capacity=1.0, progress=0.0).weight.argmax() == 2


def test_capacity_has_a_history_of_a_hundred_steps_and_a_trend():
    capacity = Capacity()
    for step in range(250):
        capacity.update(0.001 * step)
    assert len(capacity.history) == HISTORY == 100
    assert capacity.trend == pytest.approx(0.001)
    assert capacity.estimate == pytest.approx(0.249, abs=1e-6)  # not the mean of the history, 0.1995, which lags
    assert Capacity(capacity.history).estimate == capacity.estimate
    assert Capacity().estimate == 0


def test_effective_rank_is_the_share_of_directions_in_use():
    torch.manual_seed(0)
    line = torch.randn(500, 1) * torch.randn(1, 16)
    assert effective_rank(line) == pytest.approx(1 / 16, rel=1e-3)
    assert effective_rank(torch.randn(5000, 16)) > 0.95
    half = torch.cat([torch.randn(1000, 8), torch.zeros(1000, 8)], dim=1)
    assert effective_rank(half) == pytest.approx(0.5, rel=0.05)


def test_gap_by_hand():
    student, experts = torch.tensor([[1.0, 0.0]]), torch.tensor([[[2.0, 0.0]], [[0.0, 1.0]], [[-1.0, 0.0]]])
    assert knowledge_gap(student, experts).tolist() == [[0.0, 0.5, 1.0]]


def test_collapse_is_reported():
    assert collapse_report([0.02, 0.97, 0.01]) | {"entropy": 0} == {
        "collapsed": True, "expert": 1, "share": pytest.approx(0.97), "entropy": 0,
    }  # fmt: skip
    even = collapse_report([0.25] * 4)
    assert (even["collapsed"], even["entropy"]) == (False, pytest.approx(1))


def test_experts_speak_for_themselves(teacher, student, settled, pieces):
    """Their outputs differ, and mixed as the teacher mixes them they give the teacher's own state."""
    batch = pieces.batch(range(3))
    frozen = Teacher(teacher, settled, torch.device("cpu"))
    reading = frozen.read(batch).experts
    assert expert_layers(teacher.model) == {0: "model.layers.0.mlp", 1: "model.layers.1.mlp"}
    assert len(reading.outputs) == 6
    distances = torch.cdist(reading.outputs.flatten(1), reading.outputs.flatten(1))
    assert (distances[~torch.eye(6, dtype=torch.bool)] > 1e-2).all()  # not copies of one state
    best, ids = reading.gate.topk(2)
    own = torch.zeros_like(reading.gate).scatter(1, ids, best / best.sum(-1, keepdim=True))
    kept = {}
    hook = teacher.model.model.layers[1].register_forward_hook(lambda *a: kept.update(out=a[2]))
    with ExpertProbe(teacher.model, 1):
        teacher.model(input_ids=batch.teacher_ids, attention_mask=batch.teacher_mask)
    hook.remove()
    rows = torch.arange(3)[:, None].expand_as(batch.teacher_at)
    expected = kept["out"][rows[batch.aligned], batch.teacher_at[batch.aligned]]
    assert torch.allclose(reading.state(own), expected, atol=1e-4)
