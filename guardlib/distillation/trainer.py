"""Teaching a student, or training a language model alone: the loop, its log, and going on after a crash.

One optimizer step is ``accumulate`` batches (on each process), and the learning rate is a function of the optimizer
step: it falls once per step whatever the accumulation. ``torchrun -m guardlib.distillation …`` runs it on many
devices. Everything needed to go on is in ``checkpoints/last.safetensors``, written at every evaluation and in between;
that of a finished run gives its weights back without a step.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.utils import GradientAccumulationPlugin
from safetensors.torch import load_file
from torch import Tensor, nn
from tqdm.auto import tqdm

from guardlib.config import RESUMING, DistillationConfig
from guardlib.distillation.balance import LossBalancer
from guardlib.distillation.curriculum import curriculum
from guardlib.distillation.errors import DistillationError, PairError
from guardlib.distillation.evaluation import perplexity
from guardlib.distillation.finished import model_digest, text_digest
from guardlib.distillation.objective import (
    Learner,
    Recipe,
    Teacher,
    combine,
    first_not_finite,
    weights_of,
)
from guardlib.distillation.pair import LanguageModel, Match
from guardlib.distillation.stopping import EarlyStopping
from guardlib.distillation.student_router import StudentRouter, use_of_experts
from guardlib.distillation.text import Batch, Pieces
from guardlib.fingerprint import code_digests, digest_of
from guardlib.model.dual_branch import load_weights
from guardlib.report.provenance import CHECKPOINTS
from guardlib.training.checkpoint import (
    CheckpointError,
    check_identity,
    load_checkpoint,
    read_state,
    save_checkpoint,
    save_weights,
)
from guardlib.training.logs import RunLog
from guardlib.training.processes import Processes
from guardlib.training.trainer import pick_precision, schedule

LOG_EVERY, LOG_FIRST = 100, 5  # optimizer steps between lines, and first ones with a line each
ROW_EVERY = 10  # optimizer steps between rows of steps.csv
#: Settings of what is done with runs, each of which is alike whatever they are.
_OUTSIDE = ("recipes", "seeds", "teacher_steps", "guard_teacher", "guard_benign", "guard_tokens", "guard_rows",
            "guard_weight")  # fmt: skip
#: Settings that a run without a teacher does not read.
_TEACHING = ("alpha", "temperature", "top_k", "feature_weight", "attention_weight", "layerwise_weight",
             "contrastive_weight", "balance", "layer_map")  # fmt: skip


@dataclass
class Progress:
    """Where a run stands; JSON, part of the checkpoint."""

    step: int = 0
    stopping: dict = field(default_factory=dict)
    balance: dict = field(default_factory=dict)
    capacity: list[float] = field(default_factory=list)
    expert_use: list[list[float]] = field(default_factory=list)  # per step since the last logged one
    history: list[dict] = field(default_factory=list)
    steps: list[dict] = field(default_factory=list)


def distil(
    student: LanguageModel,
    train: Pieces,
    validation: Pieces,
    config: DistillationConfig,
    folder: Path,
    recipe: Recipe,
    teacher: LanguageModel | None = None,
    match: Match | None = None,
    seed: int = 0,
    progress_bar: bool = True,
) -> pd.DataFrame:
    """Train ``student`` in place, leave it with its best validated weights; a row per evaluation.

    A run that was cut short goes on from its last checkpoint, given the student it began with. Writes ``history.csv``,
    ``steps.csv``, TensorBoard events and ``checkpoints/`` into ``folder``.

    Args:
        teacher, match: both, checked by :func:`guardlib.distillation.pair.match`; neither where the recipe has no
            teacher.

    Raises:
        PairError: nothing to train or validate on, or a recipe that needs a teacher without one.
        DistillationError: a loss or gradient that is not finite; it is named, with the step.
        CheckpointError: the checkpoint found in ``folder`` is of another pair, text, code or setting, or damaged.
    """
    return _Run(student, train, validation, config, folder, recipe, teacher, match, seed, progress_bar).run()


class _Run:
    """State of one call of :func:`distil`."""

    def __init__(self, student, train, validation, config, folder, recipe, teacher, match, seed, progress_bar) -> None:
        if not len(train) or not len(validation):
            raise PairError(f"{len(train)} training and {len(validation)} validation sequences; expected some of each")
        if recipe.taught and (teacher is None or match is None):
            raise PairError(
                f"recipe {recipe.name!r} has a teacher, and none was given; expected one, or recipe 'alone'"
            )
        self.config, self.recipe, self.seed, self.train_pieces = config, recipe, seed, train
        self.processes = Processes()  # first: on CPUs Accelerator alone would leave each of them on its own
        # Precision and accumulation are the settings' own, whatever a launcher puts into the environment.
        self.accelerator = Accelerator(
            mixed_precision="no",
            gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
        )
        self.device = self.accelerator.device
        self.dtype = pick_precision(config.precision, self.device)
        torch.manual_seed(seed)
        self.teacher = Teacher(teacher, match, self.device) if recipe.taught else None
        if recipe.routed and self.teacher.expert_layer is None:
            raise PairError(
                f"recipe {recipe.name!r} routes over a teacher's experts, and {teacher.name} has none in the layers "
                f"that are learnt from ({', '.join(map(str, match.layers))}); expected recipe 'unrouted' or 'plain_kd'"
            )
        self.learner = Learner(student.model, self.teacher.width if recipe.features else None).to(self.device)
        self.optimizer = make_optimizer(self.learner, config)
        self.student, self.validation = student, validation.sample(config.evaluation_sequences)
        self.batches_a_step = config.accumulate * self.processes.count
        self.total = total_steps(len(train), config, self.processes.count)
        self.last, self.best = (folder / "checkpoints" / f"{name}.safetensors" for name in ("last", "best"))
        self.state = Progress()
        self.identity = run_identity(student, train, self.validation, config, recipe, teacher, seed)
        if config.resume and self.last.is_file():
            with _own_setting():
                saved = load_checkpoint(self.last, self.learner, self.optimizer, self.identity)
            self.state = Progress(**saved["progress"])
            print(f"resuming at step {self.state.step} of {self.total} from {self.last}")
        stopping = {"patience": config.patience, "min_delta": config.min_delta, "warmup": config.patience_warmup}
        self.stopping = EarlyStopping(**(self.state.stopping or stopping))
        self.balancer = LossBalancer()
        self.balancer.state = self.state.balance
        self.router = StudentRouter(self.state.capacity) if recipe.routed else None
        self.wrapped = self.accelerator.prepare_model(self.learner)
        main = self.processes.first
        self.log = RunLog(folder, self.state.history, self.state.steps, step=self.state.step) if main else None
        self.bar = tqdm(total=self.total, initial=self.state.step, unit="step", desc=recipe.name,
                        disable=not (progress_bar and main), mininterval=5)  # fmt: skip
        self.order: tuple[int, list[np.ndarray]] | None = None
        self.seen: dict[str, Tensor] = {}  # losses of the step so far, for the balancer

    def run(self) -> pd.DataFrame:
        self.learner.train()
        with self.bar:
            while self.state.step < self.total and not self.stopping.stop:
                self._step()
                evaluates = self.state.step % self.config.evaluate_every == 0 or self.state.step == self.total
                if evaluates:
                    self._evaluate()  # may write the best weights, which a checkpoint must know of
                if evaluates or self.state.step % self.config.checkpoint_every == 0:
                    self._checkpoint()
        self.processes.wait()  # for the files of the first
        if self.best.is_file():
            load_weights(self.learner.student, load_file(self.best), str(self.best))
        self.learner.student.eval()
        return self.log.close() if self.log else pd.DataFrame(self.state.history)

    def _batch(self, index: int) -> Batch:
        """Batch ``index`` of the run; an epoch's order depends on the seed and its number alone."""
        size = self.config.batch_size
        per_epoch = max(len(self.train_pieces) // size, 1)
        epoch, place = divmod(index, per_epoch)
        if self.order is None or self.order[0] != epoch:
            rows = np.random.default_rng([self.seed, epoch]).permutation(len(self.train_pieces))
            self.order = epoch, [rows[start : start + size] for start in range(0, len(rows), size)]
        return self.train_pieces.batch(self.order[1][place]).to(self.device)

    def _step(self) -> None:
        """One optimizer step."""
        factor = schedule((self.state.step + 0.5) / self.total, self.config.warmup_share)  # above 0 in the last one
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * factor
        first = self.state.step * self.batches_a_step + self.processes.rank
        for number in range(self.config.accumulate):
            last = number == self.config.accumulate - 1
            with contextlib.nullcontext() if last else self.accelerator.no_sync(self.wrapped):
                seen = self._backward(self._batch(first + number * self.processes.count))
        norm = nn.utils.clip_grad_norm_(self.learner.parameters(), self.config.clip_norm)
        if not norm.isfinite():
            self._stop("gradient norm", float(norm))
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.router is not None:
            self.router.end_step(self._mean)
        if self.config.balance:
            self.balancer.update({part: self._mean(float(loss)) for part, loss in self.seen.items()})
            self.seen = {}
        self.state.step += 1
        self.bar.update()
        step, last = self.state.step, self.state.step == self.total
        line = step <= LOG_FIRST or step % LOG_EVERY == 0 or last
        if line or step % ROW_EVERY == 0:
            self._log(*seen, self.config.learning_rate * factor, line)

    def _backward(self, batch: Batch) -> tuple[dict[str, Tensor], dict[str, float]]:
        """Forward and backward of one batch; its raw losses and their weights."""
        progress = self.state.step / self.total
        shares = curriculum(progress)
        knowledge = None
        if self.teacher:
            features = self.recipe.features and any(shares[1:])
            knowledge = self.teacher.read(batch, features, experts=features and self.router is not None)
        with torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32):
            raw, auxiliary, routing = self.wrapped(batch, knowledge, shares, self.config, self.router, progress)
        if bad := first_not_finite(raw):
            self._stop(f"loss {bad!r}", float(raw[bad].detach()))
        if routing is not None:
            self.state.expert_use.append(use_of_experts(routing.weight))
            self.routing = routing
        weights = weights_of(self.recipe, shares, self.config)
        if self.config.balance:
            for part, loss in raw.items():
                self.seen[part] = self.seen.get(part, 0) + loss.detach() / self.config.accumulate
            weights = {part: w * (self.balancer.scale(part) if part != "lm" else 1) for part, w in weights.items()}
        self.accelerator.backward(combine(raw, weights, auxiliary) / self.config.accumulate)
        return {part: loss.detach() for part, loss in raw.items()}, weights

    def _mean(self, value: float) -> float:
        """Over all processes, so that each goes by the same, and a checkpoint of the first is that of all."""
        return self.processes.mean([value])[0]

    def _stop(self, what: str, value: float) -> None:
        raise DistillationError(
            f"{what} is {value} at step {self.state.step} of {self.total}; last good checkpoint: "
            f"{self.last if self.last.is_file() else 'none yet'}. Start over with a lower rate: "
            "-p distillation.learning_rate=… -p distillation.resume=false"
        )

    def _log(self, raw: dict[str, Tensor], weights: dict[str, float], rate: float, line: bool) -> None:
        """One row and, where it is due, one line: progress, every part raw and weighted, how many count, routing."""
        parts = [part for part in raw if weights[part]]
        row = {"step": self.state.step, "progress": self.state.step / self.total, "learning_rate": rate}
        row["parts"] = len(parts)
        for part, loss in raw.items():
            row |= {f"raw_{part}": float(loss), f"weighted_{part}": float(loss) * weights[part]}
        row["loss"] = sum(row[f"weighted_{part}"] for part in raw)
        if self.state.expert_use:
            use = np.mean(self.state.expert_use, axis=0)
            row |= {"experts": self.routing.experts, "capacity": self.router.capacity.estimate}
            row |= {"capacity_trend": self.router.capacity.trend, "gap": float(self.routing.gap.mean())}
            row |= {f"expert_use_{number}": float(share) for number, share in enumerate(use)}
            self.state.expert_use.clear()
        self.state.steps.append(row)
        if self.log:
            self.log.step(row)
        if self.log and line:
            shown = ", ".join(f"{part} {row[f'raw_{part}']:.3f}→{row[f'weighted_{part}']:.3f}" for part in parts)
            head = (
                f"step {row['step']}/{self.total} ({row['progress']:.0%}) loss {row['loss']:.3f}, {len(parts)} parts: "
            )
            # On the bar's own stream: between two streams a notebook keeps a stale bar after every line.
            self.bar.write(head + shown, file=sys.stderr)

    def _evaluate(self) -> None:
        """Perplexity on the validation sequences, of the student alone; the best weights are kept."""
        with torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32):
            found = perplexity(self.student, self.validation, batch_size=self.config.batch_size)
        self.learner.train()
        loss = float(np.log(found.perplexity))
        row = {"step": self.state.step, "val_loss": loss, "val_perplexity": found.perplexity}
        self.state.history.append(row)
        if self.stopping.update(loss, self.state.step) and self.processes.first:
            save_weights(self.best, self.learner.student)
        if self.log:
            self.log.validation(row)
        self.bar.set_postfix_str(f"validation {loss:.3f}", refresh=False)

    def _checkpoint(self) -> None:
        if not self.processes.first:
            return
        self.state.stopping, self.state.balance = dataclasses.asdict(self.stopping), self.balancer.state
        self.state.capacity = self.router.capacity.history if self.router else []
        state = {"identity": self.identity, "progress": dataclasses.asdict(self.state)}
        save_checkpoint(self.last, self.learner, self.optimizer, state)


def check_resumable(folder: Path, identity: dict[str, str]) -> None:
    """Raise CheckpointError where a run in ``folder`` was cut short that differs from the one of ``identity``.

    In what ``identity`` leaves out they may differ: it need not be known yet.
    """
    last = folder / CHECKPOINTS / "last.safetensors"
    if last.is_file():
        with _own_setting():
            saved = read_state(last)["identity"]
            check_identity(last, {key: value for key, value in saved.items() if key in identity}, identity)


@contextlib.contextmanager
def _own_setting() -> Iterator[None]:
    """Errors of checkpoints name the setting that turns resuming off: here another than in the guard's training."""
    try:
        yield
    except CheckpointError as error:
        raise CheckpointError(str(error).replace("training.resume", "distillation.resume")) from error


def total_steps(sequences: int, config: DistillationConfig, processes: int = 1) -> int:
    """Optimizer steps of a whole run: all epochs, or ``max_steps``, whichever is less; at least one."""
    batches = max(sequences // config.batch_size, 1) * config.epochs
    steps = max(batches // (config.accumulate * processes), 1)
    return steps if config.max_steps is None else min(steps, config.max_steps)


def make_optimizer(learner: nn.Module, config: DistillationConfig) -> torch.optim.AdamW:
    """AdamW; no decay on vectors and embeddings."""
    groups = {decay: {"params": [], "names": [], "weight_decay": decay} for decay in (0.0, config.weight_decay)}
    for name, parameter in learner.named_parameters():
        group = groups[0.0 if parameter.ndim < 2 or "embed" in name else config.weight_decay]
        group["params"].append(parameter)
        group["names"].append(name)
    return torch.optim.AdamW(
        [g for g in groups.values() if g["params"]], lr=config.learning_rate, betas=(0.9, 0.98), fused=True
    )


def run_identity(
    student: LanguageModel, train: Pieces, validation: Pieces, config: DistillationConfig, recipe: Recipe,
    teacher: LanguageModel | None, seed: int,
) -> dict[str, str]:  # fmt: skip
    """What a checkpoint must agree on to be resumed: the pair as it began, recipe, settings, seed, texts and code.

    ``student`` has the weights that the run starts from.
    """
    unread = {*RESUMING, *_OUTSIDE, *(() if recipe.taught else _TEACHING)}
    settings = {name: value for name, value in dataclasses.asdict(config).items() if name not in unread}
    return {
        "student": f"{student.name} {model_digest(student.model)}",
        "teacher": f"{teacher.name} {model_digest(teacher.model)}" if teacher and recipe.taught else "none",
        "recipe": recipe.name,
        "settings": json.dumps(settings, sort_keys=True),
        "seed": str(seed),
        "text": text_digest(train),
        "validation text": text_digest(validation),
        "code": digest_of(code_digests({"guardlib.distillation.trainer"}))[:16],
    }
