from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from guardlib.config import ConfigError, TrainingConfig
from guardlib.model.dual_branch import DualOutput
from guardlib.training.losses import (
    Losses,
    check_losses,
    deferral_target,
    focal_loss,
    is_finite,
    planted_loss,
    router_loss,
    router_weight,
    total_loss,
)


def logits_of(*probabilities: list[float]) -> torch.Tensor:
    return torch.tensor(probabilities).log()


def test_focal_loss_by_hand():
    logits = logits_of([0.9, 0.1], [0.25, 0.75])
    labels = torch.tensor([0, 0])
    expected = (0.25 * 0.1**2 * -math.log(0.9) + 0.25 * 0.75**2 * -math.log(0.25)) / 2
    assert float(focal_loss(logits, labels, alpha=0.25, gamma=2.0)) == pytest.approx(expected, rel=1e-5)


@given(st.integers(0, 1000))
def test_focal_loss_without_focus_is_cross_entropy(seed):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(7, 4, generator=generator)
    labels = torch.randint(0, 4, (7,), generator=generator)
    torch.testing.assert_close(focal_loss(logits, labels, alpha=1.0, gamma=0.0), F.cross_entropy(logits, labels))


def test_focal_loss_is_float32_and_survives_certainty():
    logits = torch.tensor([[100.0, -100.0]], dtype=torch.bfloat16, requires_grad=True)
    for label in (0, 1):
        loss = focal_loss(logits, torch.tensor([label]), alpha=0.25, gamma=2.0)
        assert loss.dtype == torch.float32
        (gradient,) = torch.autograd.grad(loss, logits)
        assert gradient.isfinite().all()


def test_deferral_target_by_hand():
    fast, deep = logits_of([0.2, 0.8], [1.0, 1e-9], [0.6, 0.4]), logits_of([0.7, 0.3], [1e-9, 1.0], [0.6, 0.4])
    target = deferral_target(fast, deep, torch.tensor([0, 0, 1]))
    torch.testing.assert_close(target, torch.tensor([0.75, 0.0, 0.5]))


def test_deferral_target_carries_no_gradient():
    fast, deep = (torch.zeros(2, 4, requires_grad=True) for _ in range(2))
    assert not deferral_target(fast, deep, torch.tensor([0, 1])).requires_grad


def test_router_loss_is_zero_at_perfection_and_above_it_elsewhere():
    target = torch.tensor([0.1, 0.5, 0.93])
    perfect = torch.logit(target)
    assert float(router_loss(perfect, target)) == pytest.approx(0, abs=1e-6)
    assert float(router_loss(perfect + 0.5, target)) > 0.01
    assert float(router_loss(perfect - 0.5, target)) > 0.01


def test_router_loss_at_the_ends_is_finite():
    assert torch.isfinite(router_loss(torch.tensor([30.0, -30.0]), torch.tensor([0.0, 1.0])))


def outputs() -> DualOutput:
    generator = torch.Generator().manual_seed(0)
    fast, deep = (torch.randn(5, 4, generator=generator).requires_grad_() for _ in range(2))
    router = torch.randn(5, generator=generator).requires_grad_()
    focus = [torch.randn(5, 3, generator=generator).requires_grad_() for _ in range(2)]
    return DualOutput(fast, deep, router, torch.tensor(1.5, requires_grad=True), torch.ones(2, 3), *focus)


PLANTED = torch.tensor([[-1, 0, 1]] * 2 + [[-1, -1, -1]] * 3, dtype=torch.int8)


def test_total_is_the_weighted_sum():
    output, labels = outputs(), torch.tensor([0, 1, 2, 3, 0])
    losses = total_loss(output, labels, PLANTED, TrainingConfig(planted_loss_weight=0.3))
    torch.testing.assert_close(losses.fast, focal_loss(output.fast_logits, labels, 0.25, 2.0).detach())
    torch.testing.assert_close(losses.deep, focal_loss(output.deep_logits, labels, 0.25, 2.0).detach())
    assert float(losses.balance) == 1.5
    p_fast, p_deep = (
        logits.detach().softmax(-1)[range(5), labels] for logits in (output.fast_logits, output.deep_logits)
    )
    target, sent = (1 + p_deep - p_fast) / 2, output.router_logit.detach().sigmoid()
    router = (target * (target / sent).log() + (1 - target) * ((1 - target) / (1 - sent)).log()).mean()
    torch.testing.assert_close(losses.router, router)
    right = [focus.detach()[:2, 1:].sigmoid() for focus in (output.fast_focus, output.deep_focus)]
    planted = -sum((1 - p[:, 0]).log().sum() + p[:, 1].log().sum() for p in right) / PLANTED.numel()
    torch.testing.assert_close(losses.planted, planted)
    expected = losses.fast + losses.deep + 0.5 * router + 0.01 * losses.balance + 0.3 * planted
    torch.testing.assert_close(losses.total.detach(), expected)


@pytest.mark.parametrize(
    ("part", "weight"),
    [
        ("router_logit", "router_loss_weight"),
        ("balance_loss", "balance_loss_weight"),
        ("deep_focus", "planted_loss_weight"),
    ],
)
def test_a_weight_of_zero_turns_a_part_off(part, weight):
    labels = torch.tensor([0, 1, 2, 3, 0])
    for value in (0.0, 1.0):
        output = outputs()
        config = dataclasses.replace(TrainingConfig(), **{weight: value})
        total_loss(output, labels, PLANTED, config).total.backward()
        assert bool(getattr(output, part).grad.abs().max() > 0) == bool(value)


@pytest.mark.parametrize(("value", "finite"), [(1.0, True), (math.nan, False), (math.inf, False)])
def test_is_finite(value, finite):
    assert is_finite(Losses(torch.tensor(value), *[torch.tensor(0.0)] * 5)) == finite


def test_a_document_weighs_the_same_whatever_else_is_in_its_batch():
    focus = torch.randn(1, 8, generator=torch.Generator().manual_seed(0))
    planted = torch.tensor([[-1, 0, 0, 1, 1, 0, -1, -1]])
    alone = planted_loss(focus, planted)
    beside = planted_loss(focus.repeat(4, 1), torch.cat([planted, torch.full((3, 8), -1)]))
    torch.testing.assert_close(4 * beside, alone)
    assert float(planted_loss(torch.where(planted > 0, 30.0, -30.0), planted)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("gamma", [-1.0, 0.5, float("nan")])
def test_a_focus_without_a_gradient_is_refused(gamma):
    with pytest.raises(ConfigError, match=r"focal_gamma is .*expected 0 .* or 1 and more"):
        check_losses(dataclasses.replace(TrainingConfig(), focal_gamma=gamma))


def test_router_weight_rises_over_its_warm_up():
    config = TrainingConfig(router_loss_weight=0.5, router_warmup_share=0.4)
    assert [router_weight(progress, config) for progress in (0.0, 0.1, 0.4, 1.0)] == pytest.approx([0, 0.125, 0.5, 0.5])
    assert router_weight(0.0, TrainingConfig(router_loss_weight=0.5)) == 0.5  # no warm-up
    with pytest.raises(ConfigError, match=r"router_warmup_share is 1\.5; expected 0 \(none\) to 1"):
        check_losses(TrainingConfig(router_warmup_share=1.5))
