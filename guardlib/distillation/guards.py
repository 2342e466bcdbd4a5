"""Guards taught by guards: the losses and curriculum of language models, on the dual-branch guard.

The student trains in :func:`guardlib.training.trainer.train` as it would alone; :class:`Guidance` adds the teacher's
part to its loss: KD on both branches from the start, its features and the contrastive part as the curriculum has them.

Legend: B texts of a batch, K classes.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from guardlib.config import DistillationConfig, ModelConfig, Profile
from guardlib.distillation.curriculum import curriculum
from guardlib.distillation.guard_teachers import Ensemble, GuardTeacher, HubClassifier, Judgement, Pooled
from guardlib.distillation.losses import contrastive_loss, feature_loss, kd_loss
from guardlib.evaluation.benchmarks import pooled_rows
from guardlib.evaluation.metrics import mean_interval, prepared
from guardlib.evaluation.scores import score_rows
from guardlib.model.build import Guardrail, build_guardrail
from guardlib.model.dual_branch import DualBranchModel, DualOutput
from guardlib.model.inference import Calibration, decide, score_windows
from guardlib.training.examples import TrainingBatch
from guardlib.training.operating_points import calibrate, discard_checkpoints
from guardlib.training.trainer import train

TEACHERS = 3
_TEACHER_SEEDS = 100  # after the students' own
_TEACHER_TOKENS = 2.0  # times the students'
_ROWS_PER_BENCHMARK = 40  # and label


class Guidance:
    """What a teacher adds to a student's loss. A context manager: its projection is part of the student meanwhile."""

    def __init__(
        self, student: DualBranchModel, teacher: GuardTeacher, texts: pd.Series, config: DistillationConfig
    ) -> None:
        self.student, self.teacher, self.config = student, teacher, config
        self.texts = texts.to_numpy()

    def __enter__(self) -> Guidance:
        self._pooled = Pooled(self.student)
        # on the student, so that optimizer and checkpoints take it in
        self.student.guidance = nn.Linear(2 * self.student.config.d_model, self.teacher.features, bias=False)
        return self

    def __exit__(self, *_) -> None:
        self._pooled.remove()
        del self.student.guidance

    def __call__(self, batch: TrainingBatch, output: DualOutput, progress: float) -> Tensor:
        """The weighted loss of one batch at ``progress`` in 0..1."""
        device = output.fast_logits.device  # a classifier of the Hub stays where it was loaded
        judged = Judgement(*(part.to(device) for part in self.teacher.judge(batch, self.texts[batch.rows])))
        shares, config = curriculum(min(progress, 1.0)), self.config
        classes = judged.logits.shape[-1]
        logits = [fold(branch, classes) for branch in (output.fast_logits, output.deep_logits)]
        loss = sum(kd_loss(branch, judged.logits, config.temperature, config.top_k) for branch in logits) / 2
        own = self.student.guidance(self._pooled.state.float())
        loss = loss + config.feature_weight * shares.feature * feature_loss(own, judged.features)
        loss = loss + config.contrastive_weight * shares.contrastive * contrastive_loss(own, judged.features)
        return config.guard_weight * loss


def fold(logits_BK: Tensor, classes: int) -> Tensor:
    """Logits of benign and attack where the teacher tells no kinds of attack apart, [B, 2]; else as they are."""
    if logits_BK.shape[-1] == classes:
        return logits_BK
    logits = logits_BK.float()
    return torch.stack([logits[:, 0], logits[:, 1:].logsumexp(-1)], dim=-1)


def student_shape(model: ModelConfig) -> ModelConfig:
    """A third of the stem, one deep layer and two experts."""
    return dataclasses.replace(model, stem_layers=max(model.stem_layers // 3, 1), deep_layers=1, num_experts=2)


def train_guard(
    profile: Profile, model: ModelConfig, tokens: int, frames: tuple[pd.DataFrame, pd.DataFrame], folder: Path,
    seed: int, teacher: GuardTeacher | None = None, bar: bool = True,
) -> Guardrail:  # fmt: skip
    """A guard of the shape ``model``, trained on ``tokens`` tokens of the first of ``frames``; by a teacher, if any.

    The second frame validates; it alone settles the operating points. Writes its logs into ``folder``.
    """
    training = dataclasses.replace(
        profile.training,
        max_train_tokens=tokens,
        bfloat16_factor=1.0,
        epochs=100,
        patience=0,
        validations=3,
        resume=False,
    )
    own = dataclasses.replace(profile, seed=seed, model=model, training=training)
    guardrail = build_guardrail(own, frames[0]["text"], folder)
    arguments = (guardrail.model, guardrail.reader, *frames, own, folder, bar)
    if teacher is None:
        train(*arguments)
    else:
        with Guidance(guardrail.model, teacher, frames[0]["text"], profile.distillation) as guidance:
            train(*arguments, guidance=guidance)
    scores = score_windows(
        guardrail.model, guardrail.reader, frames[1]["text"].tolist(), own.evaluation.tokens_per_batch
    )
    discard_checkpoints(folder)
    calibration = calibrate(scores, frames[1]["label"].to_numpy(np.int64), own)
    return dataclasses.replace(guardrail, calibration=calibration)


def measure(
    train_frame: pd.DataFrame, validation: pd.DataFrame, benchmarks: pd.DataFrame, profile: Profile, folder: Path,
    bar: bool = True,
) -> pd.DataFrame:  # fmt: skip
    """The effect of a teacher: the same small guard with and without it, a row per seed, way and benchmark.

    The teacher is ``distillation.guard_teacher``, or an ensemble of three guards of the profile's own size. Benchmarks
    only measure.

    Returns:
        columns system ("alone" or "taught"), seed, benchmark ("all": pooled), auroc, tpr and fpr at the threshold that
        validation set for 1 % false positives (NaN where a benchmark has no such rows), n_pos, n_neg.

    Raises:
        PairError: the teacher cannot be loaded, or its classes cannot be told apart.
    """
    config = profile.distillation
    count = min(config.guard_rows, len(train_frame))
    frames = (train_frame.sample(count, random_state=profile.seed).reset_index(drop=True), validation)
    chosen = (
        HubClassifier(config.guard_teacher, config.guard_benign or None)
        if config.guard_teacher
        else _ensemble(profile, frames, folder, bar)
    )
    shuffled = benchmarks.sample(frac=1, random_state=profile.seed)
    sample = shuffled.groupby(["benchmark", "label"]).head(_ROWS_PER_BENCHMARK).reset_index(drop=True)
    rows = []
    for seed in range(profile.seed, profile.seed + config.seeds):
        for system, teacher in (("alone", None), ("taught", chosen)):
            guard = train_guard(
                profile, student_shape(profile.model), config.guard_tokens, frames, folder / f"{system}_{seed}", seed,
                teacher, bar,
            )  # fmt: skip
            rows += [{"system": system, "seed": seed, **row} for row in rate(guard, sample, profile)]
    return pd.DataFrame(rows)


def _ensemble(profile: Profile, frames: tuple[pd.DataFrame, pd.DataFrame], folder: Path, bar: bool) -> Ensemble:
    """Three guards of the profile's own size, each trained on twice the student's tokens from a seed of its own."""
    tokens = round(_TEACHER_TOKENS * profile.distillation.guard_tokens)
    return Ensemble(
        [
            train_guard(
                profile, profile.model, tokens, frames, folder / f"teacher_{n}", _TEACHER_SEEDS + n, bar=bar
            ).model
            for n in range(TEACHERS)
        ]
    )


def rate(guardrail: Guardrail, benchmarks: pd.DataFrame, profile: Profile) -> list[dict]:
    """AUROC, detection and false alarms at the threshold that validation set: all together (benchmarks that repeat
    others' texts aside), then by benchmark.
    """
    texts = benchmarks["text"].tolist()
    scores = score_windows(guardrail.model, guardrail.reader, texts, profile.evaluation.tokens_per_batch)
    calibration: Calibration = guardrail.calibration
    decided = decide(scores, calibration)
    rows = prepared(score_rows(benchmarks, "guard", decided.probabilities))
    parts = [("all", pooled_rows(rows)), *rows.groupby("benchmark", sort=False)]
    return [{"benchmark": name, **_rates(part, calibration.threshold_at_fpr)} for name, part in parts]


def _rates(rows: pd.DataFrame, threshold: float) -> dict[str, float]:
    positive, score = rows["positive"].to_numpy(bool), rows["score"].to_numpy()
    flagged = score >= threshold
    both = positive.any() and not positive.all()
    return {
        "auroc": float(roc_auc_score(positive, score)) if both else math.nan,
        "tpr": float(flagged[positive].mean()) if positive.any() else math.nan,
        "fpr": float(flagged[~positive].mean()) if not positive.all() else math.nan,
        "n_pos": int(positive.sum()),
        "n_neg": int((~positive).sum()),
    }


def effect(runs: pd.DataFrame) -> pd.DataFrame:
    """Taught less alone, seed by seed: the mean of each metric's difference with its 95 % interval, by benchmark."""
    rows = []
    for (benchmark, part), metric in itertools.product(runs.groupby("benchmark", sort=False), ("auroc", "tpr", "fpr")):
        wide = part.pivot(index="seed", columns="system", values=metric)
        if wide.isna().any(axis=None):  # no such rows
            continue
        mean, low, high = mean_interval((wide["taught"] - wide["alone"]).to_numpy())
        rows.append(
            {
                "benchmark": benchmark,
                "metric": metric,
                "alone": wide["alone"].mean(),
                "taught": wide["taught"].mean(),
                "difference": mean,
                "low": low,
                "high": high,
                "seeds": len(wide),
            }
        )
    return pd.DataFrame(rows)
