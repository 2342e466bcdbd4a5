from __future__ import annotations

import dataclasses
import errno
import json
import math
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from guardlib.config import ConfigError, TrainingConfig
from guardlib.evaluation.routing import RouterCollapse
from guardlib.model.dual_branch import DualBranchModel
from guardlib.model.inference import score_windows
from guardlib.training import checkpoint, step, trainer
from guardlib.training.checkpoint import CheckpointError
from guardlib.training.trainer import TrainingError, make_optimizer, pick_precision, schedule, train
from tests.helpers import TINY, VOCABULARY, make_frame, make_model, make_profile, make_reader

GOLDEN = Path(__file__).with_name("golden_losses.json")
#: Columns of the history that depend on the clock.
CLOCK = ["tokens_per_second"]


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch):
    monkeypatch.setattr(trainer, "pick_device", lambda: torch.device("cpu"))


def fresh_model(seed: int = 0, **changes) -> DualBranchModel:
    torch.manual_seed(seed)
    return DualBranchModel(dataclasses.replace(TINY, **changes), VOCABULARY)


def run(folder: Path, profile=None, frame=None, model=None) -> tuple[DualBranchModel, pd.DataFrame]:
    model = fresh_model() if model is None else model
    profile = make_profile() if profile is None else profile
    frame = make_frame() if frame is None else frame
    return model, train(model, make_reader(), frame, make_frame(40, seed=1), profile, folder, progress_bar=False)


def assert_same_weights(one: DualBranchModel, other: DualBranchModel) -> None:
    for (name, a), b in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=0, msg=name)


# ---------------------------------------------------------------------------------------------- what training does


def test_training_learns(tmp_path):
    """A task of four phrases: the loss falls and both branches are far above chance (one in four) on other texts."""
    model, history = run(tmp_path, make_profile(epochs=8), make_frame(240))
    assert history["train_loss"].iloc[-1] < 0.3 * history["train_loss"].iloc[0]
    assert history["val_loss"].iloc[-1] < 0.1 * math.log(4)  # a tenth of what knowing nothing costs
    frame = make_frame(100, seed=2)
    scores = score_windows(model, make_reader(), frame["text"].tolist(), 2048)
    for logits in (scores.fast_logits, scores.deep_logits):
        assert (logits.argmax(1) == frame["label"]).mean() > 0.85


def test_what_a_run_leaves(tmp_path):
    model, history = run(tmp_path)
    assert not model.training
    assert pd.read_csv(tmp_path / "history.csv").columns.tolist() == history.columns.tolist()
    assert {"train_loss", "val_loss", "val_accuracy_routed", "deep_share", "router_std", "expert_load_2"} <= set(
        history
    )
    assert history["step"].is_monotonic_increasing
    assert history["tokens"].is_monotonic_increasing
    assert history["epoch"].iloc[-1] == pytest.approx(3, abs=0.3)  # tokens are counted, not epochs
    steps = pd.read_csv(tmp_path / "steps.csv")
    assert {"step", "tokens", "loss", "fast_loss", "deep_loss", "router_loss", "balance_loss", "learning_rate"} <= set(
        steps
    )
    assert steps["step"].tolist() == list(range(10, 10 * len(steps) + 1, 10))
    assert list((tmp_path / "tensorboard").iterdir())
    assert (history.filter(like="expert_load").sum(axis=1) - 1).abs().max() < 1e-5


def test_the_best_weights_by_validation_are_restored(tmp_path, monkeypatch):
    losses = iter([0.9, 0.1, 0.5])
    saved = {}
    real, save = trainer.monitor, trainer.save_weights

    def monitor(*arguments):
        return real(*arguments) | {"val_loss": next(losses)}

    def save_weights(path, model):
        saved[len(saved)] = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        save(path, model)

    monkeypatch.setattr(trainer, "monitor", monitor)
    monkeypatch.setattr(trainer, "save_weights", save_weights)
    model, history = run(tmp_path)
    assert history["val_loss"].tolist() == [0.9, 0.1, 0.5]
    assert len(saved) == 2
    state = model.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in saved[1].items())
    assert any(not torch.equal(state[name], tensor) for name, tensor in saved[0].items())
    assert all(torch.equal(state[name], t) for name, t in load_file(tmp_path / "checkpoints/best.safetensors").items())


def test_weights_from_before_rounding_do_not_win_over_rounded_ones(tmp_path, monkeypatch):
    losses, rounded, saved = iter([0.1, 0.9, 0.8]), [], []
    real, score, save = trainer.monitor, trainer.score_windows, trainer.save_weights

    def score_windows(model, *arguments):
        rounded.append(bool(model.front.stem[0].attention.qkv._forward_pre_hooks))
        return score(model, *arguments)

    monkeypatch.setattr(trainer, "score_windows", score_windows)
    monkeypatch.setattr(trainer, "monitor", lambda *arguments: real(*arguments) | {"val_loss": next(losses)})
    monkeypatch.setattr(trainer, "save_weights", lambda *parts: saved.append(len(rounded)) or save(*parts))
    run(tmp_path, make_profile(quantization_aware_share=0.5))
    assert rounded == [False, True, True]
    assert saved == [1, 2, 3]


def test_a_run_that_fails_leaves_its_tables_whole(tmp_path, monkeypatch):
    steps = []
    real = trainer.forward

    def forward(*arguments):
        steps.append(1)
        if len(steps) > 25:
            raise RuntimeError("a cosmic ray")
        return real(*arguments)

    monkeypatch.setattr(trainer, "forward", forward)
    with pytest.raises(RuntimeError, match="cosmic"):
        run(tmp_path, make_profile(validations=1))
    assert pd.read_csv(tmp_path / "steps.csv")["step"].tolist() == [10, 20]


def test_patience_stops_early(tmp_path, monkeypatch):
    real = trainer.monitor
    losses = iter([0.5, 0.6, 0.7, 0.8, 0.9, 1.0])
    monkeypatch.setattr(trainer, "monitor", lambda *arguments: real(*arguments) | {"val_loss": next(losses)})
    _, history = run(tmp_path, make_profile(validations=6, patience=2))
    assert history["val_loss"].tolist() == [0.5, 0.6, 0.7]


def test_patience_counts_after_its_warm_up(tmp_path, monkeypatch):
    real = trainer.monitor
    losses = iter([0.5, 0.6, 0.7, 0.8, 0.9, 1.0])
    monkeypatch.setattr(trainer, "monitor", lambda *arguments: real(*arguments) | {"val_loss": next(losses)})
    _, history = run(tmp_path, make_profile(validations=6, patience=2, patience_warmup=0.6))
    assert history["val_loss"].tolist() == [0.5, 0.6, 0.7, 0.8, 0.9]  # the second and third are forgiven


def test_the_token_budget_is_kept(tmp_path):
    _, history = run(tmp_path, make_profile(max_train_tokens=1000))
    assert 1000 <= history["tokens"].iloc[-1] < 1000 + 192


@pytest.mark.parametrize(
    ("limit", "dtype", "expected"),
    [
        (None, torch.bfloat16, 3000),
        (500, torch.float32, 500),
        (500, torch.bfloat16, 1000),
        (2000, torch.bfloat16, 3000),  # never more than the epochs hold
    ],
)
def test_token_budget(limit, dtype, expected):
    config = TrainingConfig(epochs=3, max_train_tokens=limit, bfloat16_factor=2.0)
    assert trainer.token_budget(config, 1000, dtype) == expected


def test_accumulated_batches_are_one_step(tmp_path):
    _, one = run(tmp_path / "one", make_profile(epochs=1))
    _, two = run(tmp_path / "two", make_profile(epochs=1, accumulate=2))
    assert two["step"].iloc[-1] == -(-one["step"].iloc[-1] // 2)
    assert two["tokens"].iloc[-1] == one["tokens"].iloc[-1]


def test_a_step_goes_by_the_mean_gradient_of_its_batches(tmp_path, monkeypatch):
    """At a rate of 0, so that the second batch meets the weights that the first one met."""
    gradients = []
    real = trainer.nn.utils.clip_grad_norm_

    def clip(parameters, limit):
        parameters = list(parameters)
        gradients.append([parameter.grad.clone() for parameter in parameters])
        return real(parameters, limit)

    monkeypatch.setattr(trainer.nn.utils, "clip_grad_norm_", clip)
    for accumulate in (1, 2):
        profile = make_profile(learning_rate=0.0, accumulate=accumulate)
        model = fresh_model(dropout=0.0)
        run_killed(tmp_path / f"by_{accumulate}", monkeypatch, 2 // accumulate, profile, model)
    first, second, both = gradients
    for one, other, found in zip(first, second, both, strict=True):
        torch.testing.assert_close(found, (one + other) / 2, atol=1e-7, rtol=1e-4)


def test_validation_has_dropout_off_and_training_on(tmp_path, monkeypatch):
    modes = {"validation": set(), "training": set()}
    forward = DualBranchModel.forward

    def watched(model, *inputs):
        modes["validation" if torch.is_inference_mode_enabled() else "training"].add(model.training)
        return forward(model, *inputs)

    monkeypatch.setattr(DualBranchModel, "forward", watched)
    run(tmp_path)
    assert modes == {"validation": {False}, "training": {True}}


def test_training_and_evaluation_read_windows_of_the_same_length(tmp_path, monkeypatch):
    longest = {True: 0, False: 0}
    forward = DualBranchModel.forward

    def watched(model, input_ids, *rest):
        longest[model.training] = max(longest[model.training], input_ids.shape[1])
        return forward(model, input_ids, *rest)

    monkeypatch.setattr(DualBranchModel, "forward", watched)
    monkeypatch.setattr(trainer, "check_collapse", lambda *_, **__: None)  # texts so alike leave nothing to route
    frame = make_frame()
    frame["text"] = (frame["text"] + " ") * 10
    train(fresh_model(), make_reader(), frame, frame[:20], make_profile(epochs=2), tmp_path, progress_bar=False)
    assert longest == {True: TINY.max_length, False: TINY.max_length}


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
@pytest.mark.parametrize("adversarial", ["none", "fgsm", "pgd"])
def test_half_precision_runs_and_learns(tmp_path, precision, adversarial):
    _, history = run(tmp_path, make_profile(epochs=4, precision=precision, adversarial=adversarial))
    assert history["train_loss"].iloc[-1] < history["train_loss"].iloc[0]


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_rounded_activations_run_in_every_precision(tmp_path, precision):
    _, history = run(tmp_path, make_profile(epochs=2, precision=precision, quantization_aware_share=0.5))
    assert np.isfinite(history["train_loss"]).all()


def test_float16_leaves_out_a_step_that_overflows_and_halves_the_scale(tmp_path, monkeypatch):
    steps: list[tuple[float, bool]] = []
    real = trainer._Run._backward

    def overflows(self, batch):
        losses = real(self, batch)
        if self.state.step == 3:
            next(self.model.parameters()).grad.fill_(math.inf)
        return losses

    def watched(self, step=trainer._Run._step):
        before = [parameter.detach().clone() for parameter in self.model.parameters()]
        step(self)
        same = all(torch.equal(a, b) for a, b in zip(before, self.model.parameters(), strict=True))
        steps.append((self.scaler.get_scale(), same))

    monkeypatch.setattr(trainer._Run, "_backward", overflows)
    monkeypatch.setattr(trainer._Run, "_step", watched)
    run(tmp_path, make_profile(epochs=1, precision="float16"))
    assert steps[3][1]
    assert steps[3][0] == steps[2][0] / 2
    assert not steps[4][1]  # and goes on


def test_float16_stops_where_no_scale_helps(tmp_path, monkeypatch):
    real = trainer._Run._backward

    def broken(self, batch):
        losses = real(self, batch)
        next(self.model.parameters()).grad.fill_(math.nan)
        return losses

    monkeypatch.setattr(trainer._Run, "_backward", broken)
    with pytest.raises(TrainingError, match=r"scale of the loss in float16 is 0\.5 at step 1[67] on training rows"):
        run(tmp_path, make_profile(precision="float16"))


# ------------------------------------------------------------------------------------------------------ regression


def golden_run(folder: Path) -> dict[str, list[float]]:
    _, history = run(folder)
    return {
        name: history[name].tolist() for name in ("train_loss", "fast_loss", "deep_loss", "router_loss", "val_loss")
    }


def test_golden_losses(tmp_path):
    """A seeded run reproduces stored losses; to store new ones: ``python -m tests.training.test_trainer``."""
    stored, found = json.loads(GOLDEN.read_text()), golden_run(tmp_path)
    assert stored.keys() == found.keys()
    for name, values in stored.items():
        np.testing.assert_allclose(found[name], values, atol=1e-4, rtol=0, err_msg=name)


def test_the_same_seed_gives_the_same_run_and_another_another(tmp_path):
    (one, a), (two, b) = run(tmp_path / "a"), run(tmp_path / "b")
    pd.testing.assert_frame_equal(a.drop(columns=CLOCK), b.drop(columns=CLOCK))
    assert_same_weights(one, two)
    _, c = run(tmp_path / "c", make_profile(seed=1))
    assert c["train_loss"].tolist() != a["train_loss"].tolist()


# ---------------------------------------------------------------------------------------------------------- resume


class Killed(Exception):
    """Stands for kill -9, which takes a process of its own: nothing after it runs but what closes files."""


#: Trains in a process that kills itself before its step of this number.
SUICIDE = """
import os, signal, sys, torch
from pathlib import Path
from guardlib.training import trainer
from tests.training import test_trainer
torch.set_num_threads(1)
trainer.pick_device = lambda: torch.device("cpu")
real = trainer._Run._step
trainer._Run._step = lambda run: os.kill(os.getpid(), signal.SIGKILL) if run.state.step == 13 else real(run)
test_trainer.run(Path(sys.argv[1]))
"""


def run_killed(folder: Path, monkeypatch, at_step: int, profile=None, model=None) -> None:
    real = trainer._Run._step

    def step(self):
        if self.state.step == at_step:
            raise Killed
        real(self)

    with monkeypatch.context() as patch:
        patch.setattr(trainer._Run, "_step", step)
        with pytest.raises(Killed):
            run(folder, profile, model=model)


@pytest.mark.parametrize("at_step", [7, 14, 23])
def test_a_killed_run_resumes_to_the_same_result(tmp_path, monkeypatch, at_step):
    """Checkpoints are at every fifth step: what came after the last one is done again, in the middle of any epoch."""
    whole, expected = run(tmp_path / "whole")
    assert expected["step"].iloc[-1] >= 24
    run_killed(tmp_path / "killed", monkeypatch, at_step)
    resumed, history = run(tmp_path / "killed", model=fresh_model(seed=5))
    assert_same_weights(whole, resumed)
    pd.testing.assert_frame_equal(history.drop(columns=CLOCK), expected.drop(columns=CLOCK), atol=1e-6, rtol=0)
    steps = [pd.read_csv(tmp_path / name / "steps.csv") for name in ("whole", "killed")]
    pd.testing.assert_frame_equal(*steps, atol=1e-6, rtol=0)


def test_a_run_killed_by_the_system_resumes_to_the_same_result(tmp_path):
    whole, expected = run(tmp_path / "whole")
    command = [sys.executable, "-c", SUICIDE, str(tmp_path / "killed")]
    killed = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=120)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    resumed, history = run(tmp_path / "killed", model=fresh_model(seed=5))
    assert_same_weights(whole, resumed)
    pd.testing.assert_frame_equal(history.drop(columns=CLOCK), expected.drop(columns=CLOCK), atol=1e-6, rtol=0)


def test_a_killed_run_in_float16_resumes_to_the_same_scale_and_result(tmp_path, monkeypatch):
    profile, real = make_profile(precision="float16"), trainer.make_scaler

    def make_scaler(*given):
        """A scale that doubles every fourth step, and is low enough that no step overflows."""
        scaler = real(*given)
        scaler.set_growth_interval(4)
        scaler.update(256.0)
        return scaler

    def scale_left_in(name: str) -> dict:
        return checkpoint.read_state(tmp_path / name / "checkpoints" / "last.safetensors")["progress"]["scaler"]

    monkeypatch.setattr(trainer, "make_scaler", make_scaler)
    whole, expected = run(tmp_path / "whole", profile)
    run_killed(tmp_path / "killed", monkeypatch, 12, profile)
    assert scale_left_in("killed")["scale"] == 4 * 256
    resumed, history = run(tmp_path / "killed", profile, model=fresh_model(seed=5))
    assert_same_weights(whole, resumed)
    pd.testing.assert_frame_equal(history.drop(columns=CLOCK), expected.drop(columns=CLOCK), atol=1e-6, rtol=0)
    assert scale_left_in("killed") == scale_left_in("whole")
    assert scale_left_in("whole")["scale"] > 4 * 256


def test_resume_goes_on_from_the_checkpoint(tmp_path, monkeypatch, capsys):
    run_killed(tmp_path, monkeypatch, 13)
    taken = []
    real = trainer._Run._step
    monkeypatch.setattr(trainer._Run, "_step", lambda self: (taken.append(self.state.step), real(self)))
    run(tmp_path)
    assert taken[0] == 11  # the tenth step left a checkpoint, and the validation after the next one another
    assert "resuming at step 11" in capsys.readouterr().out


def test_resume_can_be_turned_off(tmp_path, monkeypatch):
    run_killed(tmp_path, monkeypatch, 13)
    taken = []
    real = trainer._Run._step
    monkeypatch.setattr(trainer._Run, "_step", lambda self: (taken.append(self.state.step), real(self)))
    run(tmp_path, make_profile(resume=False))
    assert taken[0] == 0


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda: {"profile": make_profile(seed=1)}, "seed = 0, this run has 1"),
        (lambda: {"profile": make_profile(epochs=4)}, r"training\.epochs = \d, this run has 4; to start over"),
        (lambda: {"frame": make_frame(97)}, "training data = "),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(tmp_path, monkeypatch, change, named):
    run_killed(tmp_path, monkeypatch, 7)
    with pytest.raises(CheckpointError, match=f"was written with {named}"):
        run(tmp_path, **change())


def test_a_checkpoint_of_another_vocabulary_is_refused(tmp_path, monkeypatch):
    run_killed(tmp_path, monkeypatch, 7)
    monkeypatch.setattr(type(make_reader().tokenizer), "fingerprint", lambda self: "another")
    with pytest.raises(CheckpointError, match=r"vocabulary = .*this run has another"):
        run(tmp_path)


def test_a_truncated_checkpoint_is_refused(tmp_path, monkeypatch):
    run_killed(tmp_path, monkeypatch, 7)
    path = tmp_path / "checkpoints" / "last.safetensors"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(CheckpointError, match="is damaged"):
        run(tmp_path)


@pytest.mark.parametrize("spoil", [Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:5000])])
def test_without_its_best_weights_a_run_does_not_go_on(tmp_path, monkeypatch, spoil):
    """Or it would end, without a word, with the last weights."""
    run_killed(tmp_path, monkeypatch, 23)
    spoil(tmp_path / "checkpoints" / "best.safetensors")
    with pytest.raises(CheckpointError, match=r"best\.safetensors.* cannot be read .*resume=false"):
        run(tmp_path)


def test_a_full_disk_keeps_the_last_checkpoint_and_the_run_can_go_on(tmp_path, monkeypatch):
    whole, _ = run(tmp_path / "whole")
    real = checkpoint.save_file
    writes = []

    def save_file(tensors, path, metadata=None):
        writes.append(path)
        if len(writes) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(tensors, path, metadata)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_file", save_file)
        with pytest.raises(CheckpointError, match="No space left on device"):
            run(tmp_path / "full")
    resumed, _ = run(tmp_path / "full")
    assert_same_weights(whole, resumed)


# ---------------------------------------------------------------------------------------------------------- faults


def test_a_loss_that_is_not_a_number_stops_with_step_and_rows(tmp_path, monkeypatch):
    real = step.total_loss
    calls = []

    def total_loss(*arguments, **options):
        losses = real(*arguments, **options)
        calls.append(0)
        return losses._replace(total=losses.total * float("nan")) if len(calls) == 8 else losses

    monkeypatch.setattr(step, "total_loss", total_loss)
    with pytest.raises(
        TrainingError, match=r"loss is nan at step 7 on training rows \[\d+.*last good checkpoint: .*last"
    ):
        run(tmp_path)
    assert checkpoint.read_state(tmp_path / "checkpoints" / "last.safetensors")["progress"]["step"] == 5


def test_a_gradient_that_is_not_a_number_never_reaches_the_weights(tmp_path, monkeypatch):
    real = trainer.nn.utils.clip_grad_norm_
    calls = []

    def clip(parameters, limit):
        parameters = list(parameters)
        calls.append(0)
        if len(calls) == 3:
            parameters[0].grad[:] = float("inf")
        return real(parameters, limit)

    monkeypatch.setattr(trainer.nn.utils, "clip_grad_norm_", clip)
    model = fresh_model()
    with pytest.raises(TrainingError, match=r"gradient norm is (inf|nan) at step 2 .*checkpoint: none yet"):
        run(tmp_path, model=model)
    assert all(parameter.isfinite().all() for parameter in model.parameters())


def test_a_collapsed_router_is_an_error_after_the_history_is_written(tmp_path):
    model = fresh_model()
    torch.nn.init.zeros_(model.front.router.out.weight)
    frozen = make_profile(learning_rate=0.0)
    with pytest.raises(RouterCollapse, match="deep"):
        run(tmp_path, frozen, model=model)
    assert len(pd.read_csv(tmp_path / "history.csv")) == 3


@pytest.mark.parametrize("empty", ["training", "validation"])
def test_no_rows_are_an_error(tmp_path, empty):
    frames = {"training": make_frame(20), "validation": make_frame(20)} | {empty: make_frame(20)[:0]}
    with pytest.raises(TrainingError, match=rf"0 {empty} rows.*expected some"):
        train(fresh_model(), make_reader(), *frames.values(), make_profile(), tmp_path, progress_bar=False)


# ------------------------------------------------------------------------------------------------------- small parts


def test_schedule():
    assert [schedule(progress, 0.1) for progress in (0.0, 0.05, 0.1, 0.55, 1.0, 1.2)] == pytest.approx(
        [0, 0.5, 1, 0.5, 0, 0]
    )
    assert schedule(0.0, 0.0) == 1.0
    rates = [schedule(progress, 0.2) for progress in np.linspace(0, 1, 101)]
    assert max(rates) == rates[20] == pytest.approx(1)
    assert np.all(np.diff(rates[:21]) > 0)
    assert np.all(np.diff(rates[20:]) < 0)


def test_the_optimizer_holds_each_parameter_once_at_its_rate():
    model = make_model(dataclasses.replace(TINY))
    model.config = dataclasses.replace(TINY, backbone="minilm")
    config = TrainingConfig(learning_rate=1e-3, backbone_learning_rate=1e-4, weight_decay=0.1)
    groups = make_optimizer(model, config).param_groups
    settings = {name: (group["lr"], group["weight_decay"]) for group in groups for name in group["names"]}
    assert sorted(settings) == sorted(name for name, _ in model.named_parameters())
    assert settings["front.stem.0.attention.qkv.weight"] == (1e-4, 0.1)
    assert settings["front.stem.0.attention.qkv.bias"] == (1e-4, 0.0)
    assert settings["front.embeddings.word.weight"] == (1e-4, 0.0)
    assert settings["deep.layers.1.experts.experts.0.up.weight"] == (1e-4, 0.1)
    assert settings["deep.layers.1.experts.gate.weight"] == (1e-3, 0.1)
    assert settings["front.head.out.weight"] == settings["front.router.out.weight"] == (1e-3, 0.1)
    model.config = TINY  # nothing is pretrained
    assert {group["lr"] for group in make_optimizer(model, config).param_groups} == {1e-3}


def test_precision():
    cpu = torch.device("cpu")
    assert pick_precision("float32", cpu) == torch.float32
    assert pick_precision("bfloat16", cpu) == torch.bfloat16
    assert pick_precision("float16", cpu, scaled=True) == torch.float16
    assert pick_precision("auto", cpu) in (torch.float32, torch.bfloat16)
    with pytest.raises(ConfigError, match=r"precision is 'float8'; expected one of auto, float32, bfloat16, float16"):
        pick_precision("float8", cpu, scaled=True)
    with pytest.raises(ConfigError, match=r"precision is 'float16'; expected one of auto, float32, bfloat16$"):
        pick_precision("float16", cpu)  # by whoever does not scale the loss


def test_a_gpu_that_emulates_bfloat16_trains_in_float32(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    assert pick_precision("auto", torch.device("cuda")) == torch.float32


if __name__ == "__main__":
    import tempfile

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        GOLDEN.write_text(json.dumps(golden_run(Path(scratch)), indent=1) + "\n")
    print(f"written: {GOLDEN}")
