"""The loop: what is logged, accumulation, resuming, stopping."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file

from guardlib.distillation import small, trainer
from guardlib.distillation.errors import DistillationError, PairError
from guardlib.distillation.objective import ALONE, PLAIN_KD, ROUTED
from guardlib.distillation.text import Pieces
from guardlib.distillation.trainer import distil, run_identity, total_steps
from guardlib.training.checkpoint import CheckpointError, read_state

from .conftest import CONFIG


@pytest.fixture
def run(teacher, student, settled, pieces, tmp_path):
    """Distil the tiny pair; keywords are settings."""

    def call(name="run", recipe=ROUTED, model=student, seed=0, **settings):
        config = dataclasses.replace(CONFIG, **settings)
        return distil(model, pieces, pieces, config, tmp_path / name, recipe, teacher, settled, seed, False)

    call.folder = tmp_path
    return call


def test_what_is_logged(run, capsys):
    """The first five steps, then every hundredth and the last: progress, parts and their count, raw and weighted."""
    run(max_steps=12, epochs=20)
    steps = pd.read_csv(run.folder / "run" / "steps.csv")
    assert steps["step"].tolist() == [1, 2, 3, 4, 5, 10, 12]
    assert steps["parts"].tolist()[0] == 2
    assert steps["parts"].iloc[-1] == 6
    last = steps.iloc[-1]
    assert last["weighted_kd"] == pytest.approx(CONFIG.alpha * last["raw_kd"])
    assert last["weighted_lm"] == pytest.approx((1 - CONFIG.alpha) * last["raw_lm"])
    assert last["loss"] == pytest.approx(sum(last[c] for c in steps if c.startswith("weighted_")))
    use = last[[c for c in steps if c.startswith("expert_use_")]].astype(float)
    assert len(use) == 6
    assert use.sum() == pytest.approx(1, abs=1e-4)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("step ")]
    assert [line.split()[1] for line in lines] == ["1/12", "2/12", "3/12", "4/12", "5/12", "12/12"]
    assert "6 parts: lm " in lines[-1]
    assert list((run.folder / "run" / "tensorboard").glob("events*"))


def test_the_rate_falls_once_per_optimizer_step_whatever_the_accumulation(run, student):
    """With the schedule stepped per batch, the second run would reach 0 at half of its steps."""
    rates = []
    for accumulate in (1, 2):
        run(f"by_{accumulate}", PLAIN_KD, copy.deepcopy(student), accumulate=accumulate)
        rates.append(pd.read_csv(run.folder / f"by_{accumulate}" / "steps.csv")[["step", "learning_rate"]])
    pd.testing.assert_frame_equal(*rates)
    assert total_steps(41, dataclasses.replace(CONFIG, max_steps=None, accumulate=3, epochs=2)) == 6


def test_accumulated_batches_are_one_large_batch(run, student):
    """Two batches of four teach what one of eight does (KD and text are means over positions of equal number)."""
    one, two = copy.deepcopy(student), copy.deepcopy(student)
    run("one", ALONE, one, batch_size=8, max_steps=1)
    run("two", ALONE, two, batch_size=4, accumulate=2, max_steps=1)
    for a, b, was in zip(*(model.model.parameters() for model in (one, two, student)), strict=True):
        assert torch.allclose(a, b, atol=2e-5)
        if a.ndim > 1:
            assert (a - was).abs().max() > 1e-4, "one step moves every matrix"


def test_a_launcher_sets_neither_precision_nor_accumulation(run, student, monkeypatch):
    one, two = copy.deepcopy(student), copy.deepcopy(student)
    run("one", ALONE, one, max_steps=3)
    AcceleratorState._reset_state(True)  # what the first run settled is kept for the process
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    run("two", ALONE, two, max_steps=3)
    for a, b in zip(one.model.parameters(), two.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_resumed_is_as_if_never_stopped(run, student, capsys):
    """The same losses to the last digit, with the router's history and the balancer's averages."""
    whole, begun, halves = (copy.deepcopy(student) for _ in range(3))
    run("whole", model=whole, balance=True)

    class Stop(Exception):
        pass

    def stop(*_):
        raise Stop

    original, trainer._Run._checkpoint = trainer._Run._checkpoint, None
    try:
        trainer._Run._checkpoint = lambda self: (original(self), stop())
        with pytest.raises(Stop):
            run("halves", model=begun, balance=True)
    finally:
        trainer._Run._checkpoint = original
    capsys.readouterr()
    run("halves", model=halves, balance=True)
    assert "resuming at step " in capsys.readouterr().out
    first, second = (pd.read_csv(run.folder / name / "steps.csv") for name in ("whole", "halves"))
    pd.testing.assert_frame_equal(first, second)
    for a, b in zip(whole.model.parameters(), halves.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_every_evaluation_leaves_a_checkpoint(run, monkeypatch):
    """A run of fewer steps than the interval has one too, that knows of the best weights beside it."""
    original = trainer._Run._step

    def step(self):
        if self.state.step == 5:
            raise KeyboardInterrupt
        original(self)

    monkeypatch.setattr(trainer._Run, "_step", step)
    with pytest.raises(KeyboardInterrupt):
        run(max_steps=8, checkpoint_every=500, evaluate_every=2)
    progress = read_state(run.folder / "run" / "checkpoints" / "last.safetensors")["progress"]
    assert (progress["step"], len(progress["history"])) == (4, 2)


def test_a_finished_run_gives_its_weights_back(run, student, monkeypatch):
    first, again = copy.deepcopy(student), copy.deepcopy(student)
    history = run(model=first, max_steps=6, checkpoint_every=500)
    monkeypatch.setattr(trainer._Run, "_step", lambda self: pytest.fail("a finished run was trained again"))
    pd.testing.assert_frame_equal(run(model=again, max_steps=6, checkpoint_every=500), history)
    for a, b in zip(first.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_what_a_run_is(student, teacher, tokenizers, pieces, monkeypatch):
    """All that its result depends on, each by its name; nothing of what other runs are asked."""

    def identity(**changed):
        given = {"student": student, "train": pieces, "validation": pieces.sample(8), "config": CONFIG, "seed": 0}
        return run_identity(**given | {"recipe": ROUTED, "teacher": teacher} | changed)

    def with_settings(**settings):
        return {"config": dataclasses.replace(CONFIG, **settings)}

    first = identity()
    other = small.make_language_model(small.student_config(CONFIG, 320), tokenizers[1], "student", 3)
    for name, changed in {
        "student": {"student": other},  # the same shape from other weights
        "text": {"train": pieces.sample(39)},
        "validation text": {"validation": pieces.sample(9)},
        "settings": with_settings(alpha=0.25),
        "seed": {"seed": 1},
    }.items():
        found = identity(**changed)
        assert [part for part in first if found[part] != first[part]] == [name]
    assert identity(**with_settings(seeds=5, guard_tokens=1, checkpoint_every=7, resume=False)) == first
    assert identity(recipe=ALONE, **with_settings(alpha=0.25)) == identity(recipe=ALONE)
    monkeypatch.setattr(trainer, "code_digests", lambda modules: {"trainer.py": "changed"})
    assert identity()["code"] != first["code"]


def test_a_checkpoint_of_another_pair_is_refused(run, tokenizers):
    run(max_steps=4)
    other = dataclasses.replace(CONFIG, student_width=64)
    wider = small.make_language_model(small.student_config(other, 320), tokenizers[1], "wider", 0)
    with pytest.raises(CheckpointError, match=r"was written with .*student = student .*, this run has wider"):
        run(max_steps=4, model=wider)


def test_a_loss_that_is_not_a_number_stops_by_name(run, teacher, settled):
    """One part of six; the step is named too."""
    from guardlib.distillation import objective

    original = objective.losses.attention_loss
    objective.losses.attention_loss = lambda *a: original(*a) * float("nan")
    try:
        with pytest.raises(DistillationError, match=r"'attention' is nan at step 2 of 12.* -p distillation\.resume"):
            run(max_steps=12)
    finally:
        objective.losses.attention_loss = original


def test_the_best_weights_are_kept(run, student, monkeypatch):
    """Of three evaluations the second is the best: neither the first weights nor the last."""
    values, real = iter([5.0, 1.0, 9.0]), trainer.perplexity
    monkeypatch.setattr(trainer, "perplexity", lambda *a, **k: real(*a, **k)._replace(perplexity=next(values)))
    seen = []
    save = trainer.save_weights
    monkeypatch.setattr(trainer, "save_weights", lambda path, model: seen.append(path.name) or save(path, model))
    run(recipe=ALONE, max_steps=3, evaluate_every=1)
    assert seen == ["best.safetensors"] * 2
    best, last = (load_file(run.folder / "run" / "checkpoints" / f"{name}.safetensors") for name in ("best", "last"))
    state = student.model.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in best.items())
    assert any(not torch.equal(state[name], last[f"model.student.{name}"]) for name in state)


def test_stops_early(run):
    """With a rate of 0 nothing improves."""
    history = run(recipe=ALONE, learning_rate=0.0, max_steps=60, evaluate_every=1, patience=3, patience_warmup=0)
    assert history["step"].tolist() == [1, 2, 3, 4]
    warm = run("warm", ALONE, learning_rate=0.0, max_steps=9, evaluate_every=1, patience=3, patience_warmup=1000)
    assert len(warm) == 9


def test_the_student_learns_from_its_teacher(run):
    """KD falls, in steps that are few."""
    run(recipe=PLAIN_KD, max_steps=40, alpha=1.0)
    steps = pd.read_csv(run.folder / "run" / "steps.csv")
    assert steps["raw_kd"].iloc[-1] < 0.8 * steps["raw_kd"].iloc[0]
    assert np.isfinite(steps["raw_lm"]).all()  # tracked, though it has no weight


def test_nothing_to_train_on(student, pieces, tmp_path):
    with pytest.raises(PairError, match="0 training and 40 validation sequences"):
        distil(student, Pieces(()), pieces, CONFIG, tmp_path, ALONE)
    with pytest.raises(PairError, match="recipe 'routed' has a teacher, and none was given"):
        distil(student, pieces, pieces, CONFIG, tmp_path, ROUTED)
