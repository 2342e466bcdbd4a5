"""The student-aware router, and the teacher's experts it chooses from."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, Qwen2MoeConfig

from guardlib.distillation.experts import ExpertProbe, expert_layers
from guardlib.distillation.objective import Teacher
from guardlib.distillation.student_router import (
    HISTORY,
    Capacity,
    StudentRouter,
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


def test_a_step_of_several_batches_is_one_entry_of_the_history():
    torch.manual_seed(0)
    router = StudentRouter()
    narrow, wide = torch.randn(200, 1) * torch.randn(1, 16), torch.randn(200, 16)
    for states in (narrow, wide):
        router(torch.randn(200, 4), states, torch.full((200, 3), 1 / 3), torch.randn(3, 200, 4), 0.0)
    assert router.capacity.history == []
    router.end_step(lambda value: value / 2)  # the mean with a process that measured none
    expected = (effective_rank(narrow) + effective_rank(wide)) / 4
    assert router.capacity.history == [pytest.approx(expected)]
    router.end_step()
    assert len(router.capacity.history) == 1


def test_effective_rank_is_the_share_of_directions_in_use():
    torch.manual_seed(0)
    line = torch.randn(500, 1) * torch.randn(1, 16)
    assert effective_rank(line) == pytest.approx(1 / 16, rel=1e-3)
    assert effective_rank(torch.randn(5000, 16)) > 0.95
    half = torch.cat([torch.randn(1000, 8), torch.zeros(1000, 8)], dim=1)
    assert effective_rank(half) == pytest.approx(0.5, rel=0.05)


def test_effective_rank_of_few_positions_is_no_little_capacity():
    """Nine positions lie in eight directions around their mean: of a width of 256 they could fill 3 % at most."""
    torch.manual_seed(0)
    assert effective_rank(torch.randn(9, 256)) > 0.95
    assert effective_rank(torch.randn(5, 1) * torch.randn(1, 16)) == pytest.approx(1 / 4, rel=1e-3)
    assert effective_rank(torch.randn(1, 16)) == effective_rank(torch.randn(0, 16)) == 0


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


def test_a_shared_expert_is_nobodys_choice():
    """Qwen2-MoE adds one that every token goes through: it stays in the state, and the weights do not add up to 1."""
    config = Qwen2MoeConfig(
        vocab_size=50, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, moe_intermediate_size=12, shared_expert_intermediate_size=20, num_experts=4,
        num_experts_per_tok=2, max_position_embeddings=32,
    )  # fmt: skip
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3) if parameter.ndim > 1 else None
    with torch.no_grad(), ExpertProbe(model, 1) as probe:
        model(input_ids=torch.randint(0, 50, (2, 7)))
        reading = probe.read(lambda x: x.flatten(0, 1))
    best, ids = reading.gate.topk(2)
    own = torch.zeros_like(reading.gate).scatter(1, ids, best)
    assert torch.allclose(reading.state(own), probe.after.flatten(0, 1), atol=1e-5)
    alone = torch.nn.functional.one_hot(torch.tensor(3), 4).float().expand(14, 4)
    assert torch.allclose(reading.states[3], reading.state(alone), atol=1e-6)
