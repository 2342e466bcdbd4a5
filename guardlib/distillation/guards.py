"""Guards taught by guards: the losses and curriculum of language models, on the dual-branch guard.

The student trains in :func:`guardlib.training.trainer.train` as it would alone; :class:`Guidance` adds the teacher's
part to its loss: KD on both branches from the start, its features and the contrastive part as the curriculum has them.

Legend: B texts of a batch, K classes.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from guardlib.config import DistillationConfig, ModelConfig, Profile
from guardlib.data.records import frame_digest
from guardlib.distillation.curriculum import curriculum
from guardlib.distillation.errors import DistillationError
from guardlib.distillation.finished import keep, recall
from guardlib.distillation.guard_teachers import Ensemble, GuardTeacher, HubClassifier, Judgement, Pooled, fold
from guardlib.distillation.losses import contrastive_loss, feature_loss, kd_loss
from guardlib.distillation.objective import first_not_finite
from guardlib.evaluation.benchmarks import pooled_rows
from guardlib.evaluation.metrics import mean_interval, prepared
from guardlib.evaluation.routing import RouterCollapse
from guardlib.evaluation.scores import score_rows
from guardlib.fingerprint import code_digests, digest_of
from guardlib.model.build import Guardrail, build_guardrail
from guardlib.model.dual_branch import DualBranchModel, DualOutput
from guardlib.model.inference import Calibration, decide, score_windows
from guardlib.model.transformer import POOLED
from guardlib.training.examples import TrainingBatch
from guardlib.training.operating_points import calibrate
from guardlib.training.trainer import run_identity, train

TEACHERS = 3
_TEACHER_SEEDS = 100  # after the students' own
_TEACHER_TOKENS = 2.0  # times the students'
_ROWS_PER_BENCHMARK = 25  # and label
_VALIDATION_ROWS = 1000  # that settle operating points
_WATCHED_ROWS = 300  # of them, that show a collapse at the end of training
_TOKENS_PER_BATCH, _RATE = 512, 4e-4  # few tokens: small batches and long steps of the backbone, or it learns nothing
_TEACHING = ("temperature", "top_k", "feature_weight", "contrastive_weight", "guard_weight")  # what Guidance reads


class Guidance:
    """What a teacher adds to a student's loss. A context manager: its projection is part of the student meanwhile."""

    def __init__(
        self, student: DualBranchModel, teacher: GuardTeacher, texts: pd.Series, config: DistillationConfig
    ) -> None:
        self.student, self.teacher, self.config = student, teacher, config
        self.texts = texts.to_numpy()
        self.rows: list[dict[str, float]] = []  # of each batch: its progress, every part raw and weighted

    def __enter__(self) -> Guidance:
        self._pooled = Pooled(self.student)
        # on the student, so that optimizer and checkpoints take it in
        self.student.guidance = nn.Linear(POOLED * self.student.config.d_model, self.teacher.features, bias=False)
        return self

    def __exit__(self, *_) -> None:
        self._pooled.remove()
        del self.student.guidance

    def __call__(self, batch: TrainingBatch, output: DualOutput, progress: float) -> Tensor:
        """The weighted loss of one batch at ``progress`` in 0..1.

        Raises:
            DistillationError: a part is not finite; it is named.
        """
        device = output.fast_logits.device  # a classifier of the Hub stays where it was loaded
        judged = Judgement(*(part.to(device) for part in self.teacher.judge(batch, self.texts[batch.rows])))
        shares, config = curriculum(min(progress, 1.0)), self.config
        classes = judged.logits.shape[-1]
        logits = [fold(branch, classes) for branch in (output.fast_logits, output.deep_logits)]
        own = self.student.guidance(self._pooled.state.float())
        raw = {
            "kd": sum(kd_loss(branch, judged.logits, config.temperature, config.top_k) for branch in logits) / 2,
            "feature": feature_loss(own, judged.features),
            "contrastive": contrastive_loss(own, judged.features),
        }
        if bad := first_not_finite(raw):
            raise DistillationError(
                f"loss {bad!r} of the guards' teacher is {float(raw[bad].detach())} at {progress:.0%} of training; "
                "weigh it less: -p distillation.guard_weight=…"
            )
        weights = {
            "kd": config.guard_weight,
            "feature": config.guard_weight * config.feature_weight * shares.feature,
            "contrastive": config.guard_weight * config.contrastive_weight * shares.contrastive,
        }
        row = {"progress": progress}
        for part, loss in raw.items():
            row |= {f"raw_{part}": float(loss.detach()), f"weighted_{part}": weights[part] * float(loss.detach())}
        self.rows.append(row)
        return sum(weights[part] * loss for part, loss in raw.items())


def student_shape(model: ModelConfig) -> ModelConfig:
    """A third of the stem, one deep layer and two experts."""
    return dataclasses.replace(model, stem_layers=max(model.stem_layers // 3, 1), deep_layers=1, num_experts=2)


def guard_profile(profile: Profile, model: ModelConfig, tokens: int, seed: int, resume: bool = False) -> Profile:
    """``profile`` for one guard of the shape ``model`` that reads ``tokens`` tokens, few, and never stops early."""
    training = dataclasses.replace(
        profile.training,
        max_train_tokens=tokens,
        bfloat16_factor=1.0,
        epochs=100,
        patience=0,
        validations=1,
        tokens_per_batch=_TOKENS_PER_BATCH,
        backbone_learning_rate=_RATE,
        resume=resume,
    )
    return dataclasses.replace(profile, seed=seed, model=model, training=training)


def train_guard(
    own: Profile, frames: tuple[pd.DataFrame, pd.DataFrame], folder: Path, teacher: GuardTeacher | None = None,
    bar: bool = True,
) -> Guardrail:  # fmt: skip
    """A guard as :func:`guard_profile` has it, trained on the first of ``frames``; by a teacher, if any.

    The first rows of the second frame validate. Writes logs and checkpoints into ``folder``. Not calibrated:
    :func:`settle`.

    Raises:
        RouterCollapse: its router sends (nearly) all texts one way.
    """
    guardrail = build_guardrail(own, frames[0], folder)
    watched = frames[1].head(_WATCHED_ROWS)
    arguments = (guardrail.model, guardrail.reader, frames[0], watched, own, folder, bar)
    if teacher is None:
        train(*arguments)
    else:
        with Guidance(guardrail.model, teacher, frames[0]["text"], own.distillation) as guidance:
            train(*arguments, guidance=guidance)
        pd.DataFrame(guidance.rows).to_csv(folder / "guidance.csv", index=False)
    return guardrail


def settle(guardrail: Guardrail, validation: pd.DataFrame, own: Profile) -> Guardrail:
    """``guardrail`` with the operating points that ``validation`` gives it.

    Raises:
        RouterCollapse: as in :func:`train_guard`.
    """
    texts, labels = validation["text"].tolist(), validation["label"].to_numpy(np.int64)
    scores = score_windows(guardrail.model, guardrail.reader, texts, own.evaluation.tokens_per_batch)
    return dataclasses.replace(guardrail, calibration=calibrate(scores, labels, own))


def measure(
    train_frame: pd.DataFrame, validation: pd.DataFrame, benchmarks: pd.DataFrame, profile: Profile, folder: Path,
    bar: bool = True,
) -> pd.DataFrame:  # fmt: skip
    """The effect of a teacher: the same small guard with and without it, a row per seed, way and benchmark.

    The teacher is ``distillation.guard_teacher``, or an ensemble of three guards of the profile's own size. Benchmarks
    only measure. A seed of which either guard's router collapses is a warning, and missing from both ways. Guards that
    were finished before the stage was cut short are not trained again (unless ``distillation.resume`` is off).

    Returns:
        columns system ("alone" or "taught"), seed, benchmark ("all": pooled), auroc, tpr and fpr at the threshold that
        validation set for 1 % false positives (NaN where a benchmark has no such rows), n_pos, n_neg.

    Raises:
        PairError: the teacher cannot be loaded, or its classes cannot be told apart.
        DistillationError: no teacher, or no seed, is left.
        CheckpointError: a teacher's checkpoint is of other settings, rows or code.
    """
    config = profile.distillation
    count = min(config.guard_rows, len(train_frame))
    validation = validation.sample(min(_VALIDATION_ROWS, len(validation)), random_state=profile.seed)
    frames = tuple(
        frame.reset_index(drop=True) for frame in (train_frame.sample(count, random_state=profile.seed), validation)
    )
    chosen = (
        HubClassifier(config.guard_teacher, config.guard_benign or None)
        if config.guard_teacher
        else _ensemble(profile, frames, folder, bar)
    )
    shuffled = benchmarks.sample(frac=1, random_state=profile.seed)
    sample = shuffled.groupby(["benchmark", "label"]).head(_ROWS_PER_BENCHMARK).reset_index(drop=True)
    rows: list[dict] = []
    for seed in range(profile.seed, profile.seed + config.seeds):
        own = guard_profile(profile, student_shape(profile.model), config.guard_tokens, seed)
        try:
            pair = [
                _figures(own, frames, sample, folder, system, teacher, bar)
                for system, teacher in (("alone", None), ("taught", chosen))
            ]
        except RouterCollapse as error:
            warnings.warn(f"seed {seed} has no figures, alone or taught: {error}", stacklevel=2)
            continue
        rows += itertools.chain(*pair)
    if not rows:
        raise DistillationError(f"{config.seeds} of {config.seeds} seeds have no figures; {_longer(config)}")
    return pd.DataFrame(rows)


def _figures(
    own: Profile, frames: tuple[pd.DataFrame, pd.DataFrame], sample: pd.DataFrame, folder: Path, system: str,
    teacher: GuardTeacher | None, bar: bool,
) -> list[dict]:  # fmt: skip
    """One student's rows."""
    place, identity = folder / f"{system}_{own.seed}", _identity(own, frames, sample, teacher)
    if rows := recall(place, identity, own.distillation.resume):
        return rows
    guard = settle(train_guard(own, frames, place, teacher, bar), frames[1], own)
    rows = [{"system": system, "seed": own.seed, **row} for row in rate(guard, sample, own)]
    keep(place, identity, rows)
    return rows


def _identity(
    own: Profile, frames: tuple[pd.DataFrame, pd.DataFrame], sample: pd.DataFrame, teacher: GuardTeacher | None
) -> dict[str, str]:
    """What must be the same for rows on disk to be these: settings, seed, teacher, the rows that are read, the code."""
    settings = own.to_dict()
    teaching = {name: settings["distillation"][name] for name in _TEACHING} if teacher else {}
    return run_identity(own, frames[0]) | {
        "validation": frame_digest(frames[1]),
        "benchmarks": frame_digest(sample.rename(columns={"benchmark": "source"})),
        "evaluation": json.dumps(settings["evaluation"], sort_keys=True),
        "teacher": teacher.identity if teacher else "none",
        "teaching": json.dumps(teaching, sort_keys=True),
        "code": digest_of(code_digests({"guardlib.distillation.guards"}))[:16],
    }


def _ensemble(profile: Profile, frames: tuple[pd.DataFrame, pd.DataFrame], folder: Path, bar: bool) -> Ensemble:
    """Three guards of the profile's own size, each trained on twice the student's tokens from a seed of its own.

    One whose router collapses is a warning; the others teach. Their checkpoints stay until the stage is done: where
    that is cut short, the same teachers come back from them.
    """
    config = profile.distillation
    tokens, resume = round(_TEACHER_TOKENS * config.guard_tokens), config.resume and profile.training.resume
    guards = []
    for n in range(TEACHERS):
        own = guard_profile(profile, profile.model, tokens, _TEACHER_SEEDS + n, resume)
        try:
            guards.append(train_guard(own, frames, folder / f"teacher_{n}", bar=bar).model)
        except RouterCollapse as error:
            warnings.warn(f"teacher {n} is left out: {error}", stacklevel=3)
    if not guards:
        raise DistillationError(f"{TEACHERS} of {TEACHERS} teachers are left out; {_longer(config)}")
    return Ensemble(guards)


def _longer(config: DistillationConfig) -> str:
    return f"expected one at least: train them for longer, -p distillation.guard_tokens={2 * config.guard_tokens}"


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
