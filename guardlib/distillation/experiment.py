"""Notebook 09's experiment: one teacher, and students of several recipes and seeds on the same text and steps."""

from __future__ import annotations

import copy
import dataclasses
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from guardlib.config import ConfigError, DistillationConfig, Profile
from guardlib.distillation import small
from guardlib.distillation.evaluation import compression, perplexity, retention
from guardlib.distillation.finished import keep, model_digest, recall, text_digest
from guardlib.distillation.guard_teachers import HubClassifier
from guardlib.distillation.objective import ALONE, PARTS, RECIPES
from guardlib.distillation.pair import LanguageModel, Match, check_length, match, teacher_dtype
from guardlib.distillation.student_router import collapse_reports
from guardlib.distillation.text import Pieces, open_text
from guardlib.distillation.trainer import check_resumable, distil, run_identity
from guardlib.fingerprint import code_digests, digest_of

_TOKENIZER_TEXTS = 4000  # enough for a few thousand merges
_COMPARED = "routed"  # the recipe that all others are controls of
_MANY = 1000  # epochs: the teacher reads as long as it has steps
_TEACHER_EVALUATIONS = 6
_START_SEEDS = 1000  # added to a seed for its start's order of batches, or the recipes would read the same ones first
_IN_RANGE = (0.1, 10.0)  # of a raw loss where it first counts: beyond, one part drowns the others


@dataclass(frozen=True, slots=True)
class Setting:
    """What every student shares: the teacher, the text cut for the pair, and how the two were matched."""

    teacher: LanguageModel
    student_tokenizer: object
    train: Pieces
    validation: Pieces  # chooses each run's weights
    test: Pieces  # only measures
    match: Match


def prepare(
    train: pd.DataFrame, validation: pd.DataFrame, test: pd.DataFrame, profile: Profile, folder: Path, bar: bool = True
) -> Setting:
    """Train the teacher on ``train``'s open text (its log goes to ``folder/teacher``) and cut all texts for the pair.

    Its last checkpoint stays until the stage is done: where that is cut short, the same teacher comes back from it.
    Whatever can be wrong with the pair, or with the guard that is to teach, is found before anything is trained.

    Raises:
        ConfigError: recipes that do not exist, or without the one that the others are compared with.
        PairError: no open text, a pair that cannot be matched, or a guard teacher that cannot be loaded.
        CheckpointError: the teacher's checkpoint is of other settings, text or code.
    """
    config = profile.distillation
    _check_recipes(config.recipes)
    if config.guard_teacher:
        HubClassifier(config.guard_teacher, config.guard_benign or None)
    texts, *held_out = (open_text(frame) for frame in (train, validation, test))
    tokenizers = [small.train_tokenizer(texts[:_TOKENIZER_TEXTS], size)
                  for size in (config.teacher_vocab, config.student_vocab)]  # fmt: skip
    teacher = small.make_language_model(
        small.teacher_config(config, len(tokenizers[0])), tokenizers[0], "teacher", profile.seed
    )
    pair = [Pieces.cut(part, config.max_length, tokenizers[1], tokenizers[0]) for part in (texts, *held_out)]
    for part in pair:
        check_length("teacher", teacher, part.longest[1])
    pair[1:] = [part.sample(config.evaluation_sequences) for part in pair[1:]]
    settled = match(teacher, make_student(config, tokenizers[1], profile.seed), pair[1], config.layer_map)
    own = [Pieces.cut(part, config.max_length, tokenizers[0]) for part in (texts, held_out[0])]
    steps = dataclasses.replace(
        config,
        max_steps=config.teacher_steps,
        evaluate_every=max(config.teacher_steps // _TEACHER_EVALUATIONS, 1),
        epochs=_MANY,
        patience=0,
    )
    distil(teacher, *own, steps, folder / "teacher", ALONE, seed=profile.seed, progress_bar=bar)
    teacher.model.to(teacher_dtype(config.precision)).config.output_router_logits = False
    return Setting(teacher, tokenizers[1], *pair, settled)


def _check_recipes(recipes: Sequence[str]) -> None:
    if unknown := [name for name in recipes if name not in RECIPES]:
        raise ConfigError(f"distillation.recipes has {unknown[0]!r}; expected some of {', '.join(RECIPES)}")
    if _COMPARED not in recipes:
        raise ConfigError(
            f"distillation.recipes is {', '.join(recipes) or 'empty'}; expected {_COMPARED!r} among them, which the "
            "others are compared with"
        )


def make_student(config: DistillationConfig, tokenizer, seed: int) -> LanguageModel:
    """A student with random weights."""
    return small.make_language_model(small.student_config(config, len(tokenizer)), tokenizer, "student", seed)


def teach(setting: Setting, profile: Profile, folder: Path, bar: bool = True) -> pd.DataFrame:
    """A student of every recipe and seed; a row each, on the test text: perplexity, bits per character, what is kept.

    Those of one seed go on from the same student, trained alone for ``distillation.start_steps``: what a teacher does
    to random weights is mostly chance, and a student in use has been trained before. Logs go to
    ``folder/<recipe>_<seed>``. A student that was finished with these settings, texts and teacher before the stage was
    cut short is not trained again (unless ``distillation.resume`` is off).

    Raises:
        CheckpointError: an unfinished student's checkpoint is of other settings, texts, teacher or code.
    """
    config = profile.distillation
    seeds = range(profile.seed, profile.seed + config.seeds)
    _check_resumable(setting, config, seeds, folder)
    rows = []
    for seed in seeds:
        start = _start(setting, config, seed, folder / f"start_{seed}", bar)
        rows += [_teach(setting, config, name, seed, start, folder / f"{name}_{seed}", bar) for name in config.recipes]
    return pd.DataFrame(rows)


def _check_resumable(setting: Setting, config: DistillationConfig, seeds: range, folder: Path) -> None:
    """Raise CheckpointError, before anything is trained, where a student was cut short that this run cannot resume."""
    student = make_student(config, setting.student_tokenizer, seeds[0])
    text = setting.train, setting.validation.sample(config.evaluation_sequences)
    for seed, name in itertools.product(seeds, config.recipes) if config.resume else ():
        identity = run_identity(student, *text, config, RECIPES[name], setting.teacher, seed)
        del identity["student"]  # whose start has yet to be trained
        check_resumable(folder / f"{name}_{seed}", identity)


def _start(setting: Setting, config: DistillationConfig, seed: int, folder: Path, bar: bool) -> LanguageModel:
    """The student that every recipe of ``seed`` goes on from. As the teacher's, its last checkpoint stays."""
    student = make_student(config, setting.student_tokenizer, seed)
    if config.start_steps:
        count = config.start_steps
        steps = dataclasses.replace(config, max_steps=count, evaluate_every=count, epochs=_MANY, patience=0)
        text, order = (setting.train, setting.validation), seed + _START_SEEDS
        distil(student, *text, steps, folder, ALONE, seed=order, progress_bar=bar)
    return student


def _teach(
    setting: Setting, config: DistillationConfig, name: str, seed: int, start: LanguageModel, folder: Path, bar: bool
) -> dict:
    """One student's row."""
    student = dataclasses.replace(start, model=copy.deepcopy(start.model))
    text, teacher, recipe = (setting.train, setting.validation), setting.teacher, RECIPES[name]
    identity = run_identity(student, *text, config, recipe, teacher, seed) | {
        "measured against": model_digest(teacher.model),
        "measured on": text_digest(setting.test),
        "code": digest_of(code_digests({"guardlib.distillation.experiment"}))[:16],
    }
    if rows := recall(folder, identity, config.resume):
        return rows[0]
    distil(student, *text, config, folder, recipe, teacher, setting.match, seed, bar)
    found = perplexity(student, setting.test)
    kept = retention(teacher, student, setting.match, setting.test)
    row = {"recipe": name, "seed": seed, **found._asdict(), **kept._asdict()}
    keep(folder, identity, [row])
    return row


def teacher_row(setting: Setting) -> dict:
    """The teacher's perplexity on the test text, over its own tokens."""
    return perplexity(setting.teacher, setting.test, "teacher")._asdict()


def sizes(setting: Setting, profile: Profile) -> pd.DataFrame:
    """Compression and speed-up of the student against the teacher."""
    student = make_student(profile.distillation, setting.student_tokenizer, profile.seed)
    return compression(setting.teacher, student, setting.test)


def steps_of(folder: Path, recipe: str, seed: int) -> pd.DataFrame:
    """The logged steps of one student."""
    return pd.read_csv(folder / f"{recipe}_{seed}" / "steps.csv")


def curves(folder: Path, profile: Profile) -> pd.DataFrame:
    """Validation perplexity over the steps of every student: system (its recipe), seed, step, val_perplexity."""
    config = profile.distillation
    frames = [
        pd.read_csv(folder / f"{name}_{seed}" / "history.csv").assign(system=name, seed=seed)
        for seed in range(profile.seed, profile.seed + config.seeds)
        for name in config.recipes
    ]
    return pd.concat(frames, ignore_index=True)


def starts(steps: pd.DataFrame) -> pd.DataFrame:
    """The raw value of each part where it first counts: ``part, step, raw, in_range`` (0.1 to 10)."""
    rows = []
    for part in PARTS:
        if f"raw_{part}" in steps and len(counted := steps[steps[f"weighted_{part}"].fillna(0) > 0]):
            raw = float(counted[f"raw_{part}"].iloc[0])
            rows.append((part, int(counted["step"].iloc[0]), raw, _IN_RANGE[0] <= raw <= _IN_RANGE[1]))
    return pd.DataFrame(rows, columns=["part", "step", "raw", "in_range"])


def expert_use(folder: Path, profile: Profile) -> pd.DataFrame:
    """:func:`.student_router.collapse_reports` of every routed student, with its seed."""
    seeds = range(profile.seed, profile.seed + profile.distillation.seeds)
    return pd.DataFrame(
        [{"seed": seed, **row} for seed in seeds for row in collapse_reports(steps_of(folder, _COMPARED, seed))]
    )


def headline(teacher: dict, summary: pd.DataFrame, use: pd.DataFrame, guard_effect: pd.DataFrame) -> dict:
    """The stage's headline: perplexities, whether the router collapsed, and what a teacher did for guards."""
    by_recipe = summary.set_index("recipe")["perplexity"]
    return {
        "teacher_perplexity": teacher["perplexity"],
        **{f"{recipe}_perplexity": float(value) for recipe, value in by_recipe.items()},
        "router_collapsed": bool(use["collapsed"].any()),
        "guard_auroc_gain": float(guard_effect.set_index(["benchmark", "metric"]).loc[("all", "auroc"), "difference"]),
    }
