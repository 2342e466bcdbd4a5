"""The training loop.

Progress is counted in tokens, not steps: the schedule, the validations and the budget are the same whatever the lengths
in a batch. Everything needed to go on after a crash is in ``checkpoints/last.safetensors``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from guardlib.config import RESUMING, ConfigError, Profile, TrainingConfig
from guardlib.data.records import frame_digest
from guardlib.evaluation.routing import check_collapse
from guardlib.fingerprint import code_digests, digest_of
from guardlib.model.dual_branch import DualBranchModel, DualOutput, load_weights
from guardlib.model.inference import pick_device, score_windows
from guardlib.text.reading import Reader
from guardlib.training.adversarial import adversarial_losses, check_adversarial
from guardlib.training.checkpoint import load_checkpoint, read_weights, save_checkpoint, save_weights
from guardlib.training.examples import Epoch, TrainingBatch
from guardlib.training.logs import RunLog, wandb_run
from guardlib.training.losses import Losses, check_losses, is_finite
from guardlib.training.operating_points import monitor
from guardlib.training.processes import Processes
from guardlib.training.progress import Progress
from guardlib.training.quantization import check_quantization, rounded_activations
from guardlib.training.step import forward

_LOSS_COLUMNS = ("fast_loss", "deep_loss", "router_loss", "balance_loss", "planted_loss")
_LOG_EVERY = 10  # steps between rows of steps.csv
_OUTSIDE = ("seeds",)  # of what is done with trainings, each of which is alike
_PRETRAINED = ("stem.", "deep.layers.", ".word.", ".position.", "embeddings.norm")  # parts of parameter names


class TrainingError(RuntimeError):
    """Training cannot go on; the message says where it stood."""


def pick_precision(choice: str, device: torch.device, scaled: bool = False) -> torch.dtype:
    """``auto`` → bfloat16 where the hardware multiplies it, else float32 (emulated bfloat16 is twenty times slower).

    Args:
        scaled: the caller scales its loss (:func:`make_scaler`), so that float16 may be chosen.

    Raises:
        ConfigError: none of these.
    """
    if choice == "auto":
        native = (
            torch.cuda.is_bf16_supported(including_emulation=False)
            if device.type == "cuda"
            else torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        )
        return torch.bfloat16 if native else torch.float32
    choices = ("float32", "bfloat16", "float16")[: 3 if scaled else 2]
    if choice not in choices:
        raise ConfigError(f"training.precision is {choice!r}; expected one of auto, {', '.join(choices)}")
    return getattr(torch, choice)


def make_scaler(device: torch.device, dtype: torch.dtype) -> torch.amp.GradScaler:
    """Scales the loss up in float16, where small gradients vanish; does nothing in other precisions."""
    scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)
    scaler.scale(torch.zeros((), device=device))  # it has its scale from its first use on; a process may have no batch
    return scaler


def token_budget(config: TrainingConfig, epoch_tokens: int, dtype: torch.dtype) -> int:
    """Tokens of a whole run: all epochs, or ``max_train_tokens`` (more of them in bfloat16), whichever is less."""
    whole = epoch_tokens * config.epochs
    if config.max_train_tokens is None:
        return whole
    factor = config.bfloat16_factor if dtype == torch.bfloat16 else 1.0
    return min(whole, round(config.max_train_tokens * factor))


def schedule(progress: float, warmup: float) -> float:
    """Factor on the learning rate at ``progress`` in [0, 1]: linear rise to 1 over ``warmup``, linear fall to 0."""
    if progress < warmup:
        return progress / warmup
    return max(1 - (progress - warmup) / max(1 - warmup, 1e-9), 0.0)


def make_optimizer(model: DualBranchModel, config: TrainingConfig) -> torch.optim.AdamW:
    """AdamW with a rate for pretrained and one for new parts; no decay on vectors (biases, norms) and in embeddings."""
    warm = model.config.backbone != "none"
    groups: dict[tuple[float, float], dict] = {}
    for name, parameter in model.named_parameters():
        pretrained = warm and any(part in name for part in _PRETRAINED)
        rate = config.backbone_learning_rate if pretrained and ".gate." not in name else config.learning_rate
        decay = 0.0 if parameter.ndim < 2 or "embed" in name.rsplit(".", 2)[0] else config.weight_decay
        group = groups.setdefault((rate, decay), {"params": [], "names": [], "lr": rate, "weight_decay": decay})
        group["params"].append(parameter)
        group["names"].append(name)
    for group in groups.values():
        group["base_lr"] = group["lr"]
    return torch.optim.AdamW(list(groups.values()), betas=(0.9, 0.98), eps=1e-6, fused=True)


def train(
    model: DualBranchModel,
    reader: Reader,
    train_frame: pd.DataFrame,
    validation_frame: pd.DataFrame,
    profile: Profile,
    folder: Path,
    progress_bar: bool = True,
    guidance: Callable[[TrainingBatch, DualOutput, float], Tensor] | None = None,
) -> pd.DataFrame:
    """Train ``model`` in place, leave it with its best validated weights, return the history (a row per validation).

    Writes ``history.csv``, ``steps.csv``, TensorBoard events and ``checkpoints/`` into ``folder``.

    Args:
        guidance: a teacher's part of the loss, of a batch, the model's output and progress in 0..1; added to the total.

    Raises:
        TrainingError: a loss or gradient that is not finite, in float16 at any scale (names step and batch rows; the
            last checkpoint is good), or no rows to train or validate on.
        RouterCollapse: at the end, if the router sends (nearly) all texts one way.
        CheckpointError: the checkpoint found there is damaged or of another run, or none can be written.
        ConfigError: a setting out of range, or ``training.wandb`` without the package wandb.
    """
    return _Run(model, reader, train_frame, validation_frame, profile, folder, progress_bar, guidance).run()


class _Run:
    """State of one call of :func:`train`."""

    def __init__(
        self, model, reader, train_frame, validation_frame, profile, folder: Path, progress_bar: bool, guidance=None
    ) -> None:
        self.profile, self.config, self.guidance = profile, profile.training, guidance
        check_adversarial(self.config)
        check_quantization(self.config)
        check_losses(self.config)
        self.processes = Processes()
        self.batches_per_step = self.config.accumulate * self.processes.count
        self.device = pick_device()
        self.dtype = pick_precision(self.config.precision, self.device, scaled=True)
        self.model = model.to(self.device)
        self.reader, self.train_frame = reader, train_frame
        if not len(train_frame) or not len(validation_frame):
            raise TrainingError(
                f"{len(train_frame)} training rows and {len(validation_frame)} validation rows; expected some of each: "
                f"run python run_all.py --profile {profile.name} --only 01 --force"
            )
        rows = self.config.validation_rows
        self.validation = (
            validation_frame.sample(min(rows, len(validation_frame)), random_state=profile.seed)
            if rows
            else validation_frame
        )
        self.optimizer = make_optimizer(model, self.config)
        self.last = folder / "checkpoints" / "last.safetensors"
        self.best = folder / "checkpoints" / "best.safetensors"
        self.identity = run_identity(profile, train_frame) | {
            "vocabulary": reader.tokenizer.fingerprint(),
            "validation data": frame_digest(self.validation),
        }
        self.scaler = make_scaler(self.device, self.dtype)
        self.state = Progress()
        torch.manual_seed(profile.seed)
        if self.config.resume and self.last.is_file():
            saved = load_checkpoint(self.last, self.model, self.optimizer, self.identity)
            self.state = Progress(**saved["progress"])
            self.scaler.load_state_dict(self.state.scaler)
            if self.state.best_step:
                read_weights(self.best)  # the run ends with them: what is wrong with them is said now
            print(f"resuming at step {self.state.step} ({self.state.tokens:,} tokens) from {self.last}")
        online = wandb_run(profile, folder) if self.processes.first and self.config.wandb else None
        place = folder if self.processes.first else None
        self.log = RunLog(place, self.state.history, self.state.steps, online, self.state.step)
        self.epoch = self._make_epoch()
        if not self.state.total_tokens:
            self.state.total_tokens = token_budget(self.config, self.epoch.tokens, self.dtype)
        self.bar = tqdm(
            total=self.state.total_tokens,
            initial=self.state.tokens,
            unit="tok",
            unit_scale=True,
            desc="training",
            disable=not (progress_bar and self.processes.first),
            mininterval=5,
        )
        self.recent = [Losses(*torch.tensor(row, device=self.device)) for row in self.state.recent]
        self.deep_share = self.state.history[-1]["deep_share"] if self.state.history else math.nan

    def _make_epoch(self) -> Epoch:
        return Epoch(self.train_frame, self.reader, self.config, seed=self.profile.seed, epoch=self.state.epoch)

    def run(self) -> pd.DataFrame:
        self.model.train()
        self.factor = 0.0  # on the learning rates
        self.clock = time.perf_counter()
        with self.bar, contextlib.closing(self.log):  # its tables are whole whatever stops the run
            while not self._finished():
                self._step()
                validates = self._validation_due()
                if validates:
                    self._validate()  # may write the best weights, which a checkpoint must know of
                if validates or self.state.step % self.config.checkpoint_every == 0:
                    self._checkpoint()
        self.processes.wait()  # for the first one's files
        if self.state.best_step:
            load_weights(self.model, read_weights(self.best), str(self.best))
        history = pd.DataFrame(self.state.history)
        self.model.eval()
        # From the validation on whose weights these are: one of them, on few texts, may be 0 or 1 by chance.
        since = history[history["step"] >= self.state.best_step]
        final = since.loc[(since["deep_share"] - 0.5).abs().idxmin()]
        check_collapse(float(final["deep_share"]), router_std=float(final["router_std"]))
        return history

    def _finished(self) -> bool:
        patience = self.config.patience
        if patience and self.state.bad_validations >= patience:
            return True
        return self.state.epoch >= self.config.epochs or self.state.tokens >= self.state.total_tokens

    def _step(self) -> None:
        """One optimizer step over ``accumulate`` batches per process."""
        self.factor = schedule(self.state.tokens / self.state.total_tokens, self.config.warmup_share)
        for group in self.optimizer.param_groups:
            group["lr"] = group["base_lr"] * self.factor
        batch = None  # a process may have none in the last step of an epoch
        for number in range(self.batches_per_step):
            if self.processes.takes(number):
                batch = self.epoch[self.state.batch]
                losses = self._backward(batch)
                self.recent.append(Losses(*(part.detach() for part in losses)))
            tokens = self.epoch.tokens_of(self.state.batch)
            self.state.tokens += tokens
            self.bar.update(tokens)
            self._advance()
            if self.state.epoch >= self.config.epochs:
                break
        self.processes.sum_gradients(self.model)
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip_norm)
        if not norm.isfinite() and not self.scaler.is_enabled():
            self._stop("gradient norm", float(norm), batch)  # one step on it would poison the weights
        self.scaler.step(self.optimizer)  # in float16 a step whose gradients overflow is left out, and the scale halved
        self.scaler.update()
        if self.scaler.is_enabled() and self.scaler.get_scale() < 1:
            self._stop("scale of the loss in float16", self.scaler.get_scale(), batch)
        self.optimizer.zero_grad(set_to_none=True)
        self.state.step += 1
        if self.state.step % _LOG_EVERY == 0:
            self._log_step()

    def _backward(self, batch: TrainingBatch) -> Losses:
        share = min(self.state.tokens / self.state.total_tokens, 1.0)
        with self._as_rounded():
            output, losses = forward(self.model, batch, self.config, self.dtype, share)
            if self.guidance:
                losses = losses._replace(total=losses.total + self.guidance(batch, output, share))
            if not is_finite(losses):
                self._stop("loss", losses.total.item(), batch)
            self.scaler.scale(losses.total / self.batches_per_step).backward()
            if self.config.adversarial != "none" and share >= self.config.adversarial_start:
                worst = adversarial_losses(self.model, batch, self.config, self.dtype, share)
                if not is_finite(worst):
                    self._stop("adversarial loss", worst.total.item(), batch)
                self.scaler.scale(worst.total * (self.config.adversarial_weight / self.batches_per_step)).backward()
        self.state.expert_loads.append(output.expert_load.detach().mean(0).tolist())
        return losses

    def _rounds(self) -> bool:
        """Whether this is the last part of training, in which activations are rounded as INT8 will."""
        share = self.config.quantization_aware_share
        return share > 0 and self.state.tokens >= (1 - share) * self.state.total_tokens

    def _as_rounded(self) -> contextlib.AbstractContextManager:
        return rounded_activations(self.model) if self._rounds() else contextlib.nullcontext()

    def _stop(self, what: str, value: float, batch: TrainingBatch | None) -> NoReturn:
        rows = f"training rows {batch.rows[:8].tolist()}…" if batch else "rows of another process"
        raise TrainingError(
            f"{what} is {value} at step {self.state.step} on {rows}; "
            f"last good checkpoint: {self.last if self.last.is_file() else 'none yet'}. "
            "Start over with a lower rate: -p training.backbone_learning_rate=… -p training.resume=false"
        )

    def _advance(self) -> None:
        self.state.batch += 1
        if self.state.batch >= len(self.epoch):
            self.state.batch = 0
            self.state.epoch += 1
            if self.state.epoch < self.config.epochs:
                self.epoch = self._make_epoch()

    def _validation_due(self) -> bool:
        share = self.state.tokens / self.state.total_tokens
        return self._finished() or share * self.config.validations >= self.state.validations + 1

    def _elapsed(self) -> float:
        now = time.perf_counter()
        self.state.seconds += now - self.clock
        self.clock = now
        return self.state.seconds

    def _validate(self) -> None:
        seconds = self._elapsed()
        texts, budget = self.validation["text"].tolist(), self.profile.evaluation.tokens_per_batch
        with self._as_rounded():
            scores = score_windows(self.model, self.reader, texts, budget)
        if self._rounds() and not self.state.rounded:  # what counts from now on; weights from before it do not
            self.state.rounded, self.state.best_loss, self.state.bad_validations = True, math.inf, 0
        figures = monitor(scores, self.validation["label"].to_numpy(np.int64), self.profile)
        self.clock = time.perf_counter()  # throughput is that of training alone
        self.state.validations += 1
        self.deep_share = figures["deep_share"]
        row = {"step": self.state.step, "epoch": self._epochs_done(), "tokens": self.state.tokens}
        row |= self._mean_losses() | figures
        row |= {f"expert_load_{i}": float(load) for i, load in enumerate(np.mean(self.state.expert_loads, axis=0))}
        self.state.expert_loads.clear()
        row |= {
            "learning_rate": self.config.learning_rate * self.factor,
            "tokens_per_second": self.state.tokens / max(seconds, 1e-9),
        }
        self.state.history.append(row)
        self.log.validation(row)
        if figures["val_loss"] < self.state.best_loss:
            self.state.best_loss, self.state.bad_validations = figures["val_loss"], 0
            self.state.best_step = self.state.step
            if self.processes.first:
                save_weights(self.best, self.model)
        elif self.state.tokens > self.config.patience_warmup * self.state.total_tokens:
            self.state.bad_validations += 1

    def _epochs_done(self) -> float:
        return round(self.state.epoch + self.state.batch / max(len(self.epoch), 1), 3)

    def _mean_losses(self) -> dict[str, float]:
        names = ("train_loss", *_LOSS_COLUMNS)
        means = [float(torch.stack(part).mean()) for part in zip(*self.recent, strict=True)] or [math.nan] * len(names)
        self.recent.clear()
        return dict(zip(names, self.processes.mean(means), strict=True))

    def _log_step(self) -> None:
        if not self.recent:
            return
        row = {"step": self.state.step, "tokens": self.state.tokens}
        row |= {name: float(value) for name, value in zip(("loss", *_LOSS_COLUMNS), self.recent[-1], strict=True)}
        row |= {"learning_rate": self.config.learning_rate * self.factor, "deep_share": self.deep_share}
        self.state.steps.append(row)
        self.log.step(row)
        split = "routing not measured yet"
        if self.state.history:
            accuracy = self.state.history[-1]["val_accuracy_routed"]
            split = f"accuracy {accuracy:.3f}, fast {1 - self.deep_share:.0%} / deep {self.deep_share:.0%}"
        self.bar.set_postfix_str(f"loss {row['loss']:.3f}, {split}", refresh=False)

    def _checkpoint(self) -> None:
        if not self.processes.first:
            return
        self._elapsed()
        self.state.scaler = self.scaler.state_dict()
        self.state.recent = [[float(part) for part in losses] for losses in self.recent]
        state = {"identity": self.identity, "progress": dataclasses.asdict(self.state)}
        save_checkpoint(self.last, self.model, self.optimizer, state)


def run_identity(profile: Profile, frame: pd.DataFrame) -> dict[str, str]:
    """What a checkpoint must agree on to be resumed: model and training settings, precision here, seed, data, code."""
    settings = profile.to_dict()
    training = {k: v for k, v in settings["training"].items() if k not in (*RESUMING, *_OUTSIDE)}
    return {
        "model": json.dumps(settings["model"], sort_keys=True),
        "training": json.dumps(training, sort_keys=True),
        "precision": str(pick_precision(profile.training.precision, pick_device(), scaled=True)),
        "seed": str(profile.seed),
        "training data": frame_digest(frame),
        "code": digest_of(code_digests({"guardlib.training.trainer", "guardlib.model.build"}))[:16],
    }
