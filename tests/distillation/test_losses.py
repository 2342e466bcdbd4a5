"""Each loss against a value worked out by hand, and the size it starts at."""

from __future__ import annotations

import math

import pytest
import torch

from guardlib.distillation import losses


def kl(p, q):
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def test_kd_by_hand():
    """T = 2 halves the logits, T² multiplies the divergence by 4."""
    teacher, student = torch.tensor([[math.log(9.0), 0.0]]), torch.tensor([[0.0, 0.0]])
    assert losses.kd_loss(student, teacher, 2.0) == pytest.approx(4 * kl((0.75, 0.25), (0.5, 0.5)), rel=1e-5)
    assert losses.kd_loss(teacher, teacher, 4.0) == pytest.approx(0, abs=1e-6)


def test_kd_counts_what_the_top_k_leaves_out_as_one_class():
    """Three of four classes are the rest together: 0.7 | 0.3 against 0.4 | 0.6. Dropping them would ask for 1.0 | 0."""
    teacher, student = torch.tensor([[0.7, 0.1, 0.1, 0.1]]).log(), torch.tensor([[0.4, 0.3, 0.2, 0.1]]).log()
    expected = kl((0.7, 0.3), (0.4, 0.6))
    assert losses.kd_loss(student, teacher, 1.0, top_k=1) == pytest.approx(expected, rel=1e-4)
    assert losses.kd_loss(student, teacher, 1.0, top_k=4) == losses.kd_loss(student, teacher, 1.0, top_k=256)
    same = torch.randn(3, 50)
    assert losses.kd_loss(same, same, 4.0, top_k=5) == pytest.approx(0, abs=1e-5)


def test_language_model_loss_by_hand_and_in_chunks():
    """Even logits cost ln V; −100 is not counted; a chunk changes nothing."""
    assert losses.language_model_loss(torch.zeros(3, 8), torch.tensor([1, -100, 2])) == pytest.approx(math.log(8))
    logits, targets = torch.randn(11, 7), torch.randint(0, 7, (11,))
    whole = torch.nn.functional.cross_entropy(logits, targets)
    assert losses.language_model_loss(logits, targets, chunk=4) == pytest.approx(float(whole), rel=1e-6)
    assert losses.language_model_loss(logits, torch.full((11,), -100)) == 0


def test_chunks_keep_no_float32_copy_of_the_logits():
    """What waits for the gradient is the logits as they came, not their float32 softmax."""
    logits = torch.randn(4096, 50, dtype=torch.bfloat16, requires_grad=True)
    targets = torch.randint(0, 50, (4096,))
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: (kept.append(x), x)[1], lambda x: x):
        loss = losses.language_model_loss(logits, targets)
    assert sum(x.numel() for x in kept if x.dtype == torch.float32) < 100
    loss.backward()
    again = logits.detach().float().requires_grad_()
    torch.nn.functional.cross_entropy(again, targets).backward()
    assert torch.allclose(logits.grad.float(), again.grad, atol=1e-4)


def test_feature_loss_by_hand():
    """Opposite states differ by 2 in every dimension; scale does not matter; states at right angles give 2."""
    state = torch.tensor([[3.0, 4.0]])
    assert losses.feature_loss(-state, 7 * state) == pytest.approx(4, rel=1e-5)
    assert losses.feature_loss(torch.tensor([[4.0, -3.0]]), state) == pytest.approx(2, rel=1e-5)
    assert losses.feature_loss(0.1 * state, state) == pytest.approx(0, abs=1e-6)


def test_attention_loss_by_hand():
    """The mean of the two rows' divergences: (0 + ln 2 · …); padding rows are left out."""
    teacher = torch.tensor([[[1.0, 0.0], [0.75, 0.25]]])
    student = torch.tensor([[[1.0, 0.0], [0.5, 0.5]]])
    expected = kl((0.75, 0.25), (0.5, 0.5)) / 2
    assert losses.attention_loss(student, teacher, torch.ones(1, 2)) == pytest.approx(expected, rel=1e-5)
    assert losses.attention_loss(student, teacher, torch.tensor([[1, 0]])) == pytest.approx(0, abs=1e-6)


def test_layerwise_loss_is_the_mean_over_layers():
    a, b = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    assert losses.layerwise_loss([a, a], [a, b]) == pytest.approx(1, rel=1e-5)  # (0 + 2) / 2


def test_contrastive_loss_by_hand():
    """ln B where all look alike; where each is its own, ln(1 + e^(−1/τ)) for two at right angles."""
    alike = torch.ones(5, 3)
    assert losses.contrastive_loss(alike, alike) == pytest.approx(math.log(5), rel=1e-5)
    apart = torch.eye(2)
    assert losses.contrastive_loss(apart, apart, 0.5) == pytest.approx(math.log(1 + math.exp(-2)), rel=1e-5)


@pytest.mark.parametrize("width", [16, 4096])
@pytest.mark.parametrize("scale", [1.0, 300.0])
def test_feature_loss_starts_alike_whatever_the_teacher(width, scale):
    """Summed over the width, or on raw states, it would start at 150 and more."""
    torch.manual_seed(0)
    start = losses.feature_loss(torch.randn(64, width), scale * torch.randn(64, width))
    assert 0.1 < start < 10


@pytest.mark.parametrize("length", [8, 256])
def test_attention_loss_does_not_grow_with_length(length):
    """Summed over positions it would start at 90 to 140."""
    torch.manual_seed(0)
    teacher = (2 * torch.randn(2, length, length)).softmax(-1)
    even = torch.full_like(teacher, 1 / length)
    assert 0.1 < losses.attention_loss(even, teacher, torch.ones(2, length)) < 10
