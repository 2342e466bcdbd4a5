"""One batch: the size of every part at the start, and dtypes."""

from __future__ import annotations

import pytest
import torch

from guardlib.distillation.curriculum import curriculum
from guardlib.distillation.evaluation import perplexity, retention
from guardlib.distillation.objective import PARTS, PLAIN_KD, ROUTED, Learner, Teacher, combine, weights_of
from guardlib.distillation.student_router import Routing, StudentRouter

from .conftest import CONFIG


def losses_of(teacher, student, settled, pieces, autocast=False, progress=1.0, scale=1.0):
    frozen = Teacher(teacher, settled, torch.device("cpu"))
    torch.manual_seed(0)
    learner = Learner(student.model, frozen.width)
    batch = pieces.batch(range(8))
    knowledge = frozen.read(batch)
    knowledge = knowledge._replace(layers=tuple(scale * layer for layer in knowledge.layers))
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        raw, auxiliary, routing = learner(batch, knowledge, curriculum(progress), CONFIG, StudentRouter(), progress)
    combine(raw, weights_of(ROUTED, curriculum(progress), CONFIG), auxiliary).backward()
    return raw, routing, learner


@pytest.mark.parametrize("scale", [1.0, 200.0])
def test_every_part_starts_at_the_size_of_the_others(teacher, student, settled, pieces, scale):
    """Also for a teacher with states of great size."""
    raw, _, _ = losses_of(teacher, student, settled, pieces, scale=scale)
    assert set(raw) == set(PARTS)
    for part, loss in raw.items():
        assert 0.1 <= loss.item() <= 10, (part, loss.item())


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_no_dtype_meets_another(teacher, student, settled, pieces, dtype, autocast):
    """A half-precision teacher and a float32 student, in training and in evaluation, with autocast and without."""
    teacher.model.to(dtype)
    raw, _, learner = losses_of(teacher, student, settled, pieces, autocast)
    assert {loss.dtype for loss in raw.values()} == {torch.float32}
    assert all(torch.isfinite(p.grad).all() for p in learner.parameters() if p.grad is not None)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        kept = retention(teacher, student, settled, pieces.sample(4))
        found = perplexity(student, pieces.sample(4))
    assert kept.kl > 0
    assert 1 < found.perplexity < 2000
    assert perplexity(teacher, pieces.sample(4), "teacher").tokens < found.tokens


def test_parts_come_with_the_curriculum(teacher, student, settled, pieces):
    """KD alone in the first tenth; nothing is computed that does not count."""
    parts = {p: set(losses_of(teacher, student, settled, pieces, progress=p)[0]) for p in (0.05, 0.3, 0.6, 0.9)}
    assert parts[0.05] == {"lm", "kd"}
    assert parts[0.3] == {"lm", "kd", "feature", "attention"}
    assert parts[0.6] == parts[0.3] | {"layerwise"}
    assert parts[0.9] == set(PARTS)


def test_the_text_itself_always_counts_one_minus_alpha():
    for progress in (0.0, 0.5, 1.0):
        weights = weights_of(ROUTED, curriculum(progress), CONFIG)
        assert (weights["lm"], weights["kd"]) == (1 - CONFIG.alpha, CONFIG.alpha)
    assert not any(weights_of(PLAIN_KD, curriculum(1.0), CONFIG)[part] for part in PARTS[2:])


def test_the_teacher_is_not_trained(teacher, student, settled, pieces):
    before = [p.clone() for p in teacher.model.parameters()]
    losses_of(teacher, student, settled, pieces)
    assert not any(p.requires_grad or p.grad is not None for p in teacher.model.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, teacher.model.parameters(), strict=True))


@pytest.fixture
def half_taught(teacher, student, settled, pieces):
    """A batch, what a teacher whose last norm has a scale of its own knows of it, and a learner."""
    torch.nn.init.uniform_(teacher.model.model.norm.weight, 0.2, 3.0)
    frozen, batch = Teacher(teacher, settled, torch.device("cpu")), pieces.batch(range(8))
    torch.manual_seed(0)
    return batch, frozen, Learner(student.model, frozen.width)


def test_routed_and_unrouted_differ_in_the_mixture_alone(half_taught):
    """Where the router mixes as the teacher does, both are taught the very same state."""
    batch, frozen, learner = half_taught
    knowledge = frozen.read(batch)

    def as_the_teacher(projected, states, gate, experts, progress):
        best, ids = gate.topk(2)
        weight = torch.zeros_like(gate).scatter(1, ids, best / best.sum(-1, keepdim=True))
        return Routing(weight, torch.zeros_like(gate), 2, 1.0, 0.5)

    routed, unrouted = (
        learner(batch, knowledge, curriculum(1.0), CONFIG, router, 1.0)[0]["feature"].item()
        for router in (as_the_teacher, None)
    )
    assert routed == pytest.approx(unrouted, abs=1e-5)
    assert torch.equal(frozen.read(batch, experts=False).feature, knowledge.feature)  # which unrouted students get
    assert not torch.allclose(knowledge.feature, knowledge.layers[-1], atol=0.1)


def test_a_student_in_the_state_an_expert_leaves_has_no_gap_to_it(half_taught):
    """What it is taught and what its distance is measured to are the same kind of state."""
    batch, frozen, learner = half_taught
    knowledge = frozen.read(batch)
    reading = knowledge.experts

    class Taught(torch.nn.Module):
        def forward(self, _):
            return reading.residual + reading.outputs[2]

    learner.feature = Taught()
    _, _, routing = learner(batch, knowledge, curriculum(1.0), CONFIG, StudentRouter(), 1.0)
    assert routing.gap[:, 2].max() < 1e-6
    assert routing.gap.mean(0).argmin() == 2
