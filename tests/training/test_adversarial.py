"""Adversarial training does what it claims: the embeddings found are worse, and training on them makes them less so."""

import copy
import dataclasses

import pytest
import torch

from guardlib.config import ConfigError, TrainingConfig
from guardlib.training import adversarial, trainer
from guardlib.training.adversarial import adversarial_losses, check_adversarial, worst_perturbation
from guardlib.training.examples import Epoch
from guardlib.training.step import forward
from guardlib.training.trainer import train
from tests.helpers import make_frame, make_model, make_profile, make_reader

SETTINGS = {"fgsm": {"adversarial": "fgsm"}, "pgd": {"adversarial": "pgd", "adversarial_steps": 4}}


def batch_of(config: TrainingConfig):
    return Epoch(make_frame(), make_reader(), config, seed=0, epoch=0)[0]


@pytest.mark.parametrize("method", SETTINGS)
def test_the_perturbation_is_worse_than_none_and_than_a_random_one_of_its_size(method):
    config = dataclasses.replace(make_profile().training, adversarial_epsilon=0.5, **SETTINGS[method])
    model, batch = make_model(), batch_of(config)
    clean = forward(model, batch, config, torch.float32)[1].total.item()
    worst = adversarial_losses(model, batch, config, torch.float32).total.item()
    shape = (*batch.inputs.input_ids.shape, model.config.d_model)
    random = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    random = random * (0.5 / adversarial.norm(random))
    with adversarial.perturbed(model, random):
        by_chance = forward(model, batch, config, torch.float32)[1].total.item()
    assert worst > clean
    assert worst - clean > 3 * abs(by_chance - clean)


def test_each_step_of_pgd_finds_worse_and_stays_inside_epsilon(monkeypatch):
    seen, real = [], adversarial.forward

    def watched(*given):
        output, losses = real(*given)
        seen.append(losses.total.item())
        return output, losses

    monkeypatch.setattr(adversarial, "forward", watched)
    found = {}
    for method, steps in (("fgsm", 1), ("pgd", 4)):
        config = dataclasses.replace(make_profile().training, adversarial_epsilon=16.0, **SETTINGS[method])
        model, batch = make_model(), batch_of(config)
        assert adversarial.norm(worst_perturbation(model, batch, config, torch.float32)).max() <= 16.0 + 1e-3
        seen.clear()
        found[method] = adversarial_losses(model, batch, config, torch.float32).total.item()
        assert len(seen) == steps + 1  # and one at the place found
        assert seen == sorted(set(seen))
    assert found["pgd"] > found["fgsm"]


def test_gradients_held_are_left_alone():
    config = dataclasses.replace(make_profile().training, adversarial="pgd")
    model, batch = make_model(), batch_of(config)
    forward(model, batch, config, torch.float32)[1].total.backward()
    before = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    adversarial_losses(model, batch, config, torch.float32)
    for name, parameter in model.named_parameters():
        if name in before:
            assert torch.equal(parameter.grad, before[name]), name


def test_training_with_it_makes_the_worst_case_better(tmp_path):
    """From one trained model: an untrained one has its worst case made better by any training."""
    frame, losses, start = make_frame(160), {}, make_model()
    train(start, make_reader(), frame, frame[:40], make_profile(), tmp_path / "start", progress_bar=False)
    for method in ("none", "fgsm"):
        attacked = {"adversarial": method, "adversarial_epsilon": 16.0, "adversarial_weight": 1.0}
        profile = make_profile(learning_rate=1e-3, **attacked)
        model = copy.deepcopy(start)
        train(model, make_reader(), frame, frame[:40], profile, tmp_path / method, progress_bar=False)
        probe = dataclasses.replace(profile.training, adversarial="fgsm")
        losses[method] = adversarial_losses(model, batch_of(probe), probe, torch.float32).total.item()
    assert losses["fgsm"] < 0.6 * losses["none"]


@pytest.mark.parametrize(
    ("setting", "value"),
    [("adversarial", "fgm"), ("adversarial_epsilon", 0.0), ("adversarial_steps", 0), ("adversarial_start", 1.0)],
)
def test_settings_out_of_range_are_named(setting, value):
    with pytest.raises(ConfigError, match=f"training.{setting} is"):
        check_adversarial(dataclasses.replace(TrainingConfig(), **{setting: value}))


def test_adversarial_reading_begins_where_it_is_told_to(tmp_path, monkeypatch):
    shares = []
    real = trainer.adversarial_losses
    monkeypatch.setattr(trainer, "adversarial_losses", lambda *given: shares.append(given[-1]) or real(*given))
    profile = make_profile(epochs=2, adversarial="fgsm", adversarial_start=0.5, router_warmup_share=0.9)
    train(make_model().train(), make_reader(), make_frame(), make_frame(40, seed=1), profile, tmp_path, False)
    assert 0.5 <= min(shares) < 0.7  # progress is passed on: the router's loss is still warming up
    assert max(shares) < 1


@pytest.mark.parametrize("method", ["fgsm", "pgd"])
def test_a_perturbation_is_found_in_float16_though_the_gradient_is_tiny(method):
    """Of a text the model is sure of: unscaled, its gradient is below what float16 holds."""
    config = dataclasses.replace(make_profile().training, adversarial_epsilon=0.5, focal_alpha=1e-6, **SETTINGS[method])
    delta = worst_perturbation(make_model(), batch_of(config), config, torch.float16)
    assert delta.isfinite().all()
    assert (adversarial.norm(delta) > 0.4).all()
