"""``python -m guardlib.distillation --teacher … --student …``: distil any pair of causal language models.

    python -m guardlib.distillation --batch-size 2 --epochs 3 --teacher path/to/moe --student HuggingFaceTB/SmolLM-135M
    torchrun --nproc-per-node 2 -m guardlib.distillation --teacher … --student …      several processes; so does
    accelerate launch -m guardlib.distillation --teacher … --student …                 on GPUs, or with one on a CPU
    python -m guardlib.distillation --teacher … --student … --output runs/a   the same again goes on where it stopped

A part of the text chooses the student's weights and another measures them: 01_data's own splits, or the last tenth of
files, one half each.

Exit code 0: done; 1: training stopped; 2: the pair, the text or a setting is wrong (one line on standard error).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import torch

from guardlib.config import PROFILES, ConfigError, DistillationConfig
from guardlib.distillation.errors import DistillationError, PairError
from guardlib.distillation.evaluation import compression, perplexity, retention
from guardlib.distillation.objective import RECIPES
from guardlib.distillation.pair import (
    Match,
    check_length,
    load_language_model,
    match,
    own_dtype,
    save_language_model,
    teacher_dtype,
)
from guardlib.distillation.student_router import collapse_reports
from guardlib.distillation.text import Pieces, open_text
from guardlib.distillation.trainer import distil
from guardlib.paths import project_root, stage_folder
from guardlib.training.checkpoint import CheckpointError
from guardlib.training.processes import Processes

_HELD_OUT = 0.05  # of the texts of files: the last ones measure, as many before them validate
_SUFFIXES = (".txt", ".jsonl", ".parquet")
_PRECISIONS = ("auto", "float32", "bfloat16")
_DEFAULTS = DistillationConfig(
    max_length=256, batch_size=2, epochs=3, max_steps=None, learning_rate=3e-4, evaluate_every=200
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    options = _parser().parse_args(arguments)
    try:
        return run(options)
    except (PairError, ConfigError, CheckpointError, OSError) as error:
        print(f"guardlib.distillation: {_in_options(error)}", file=sys.stderr)
        return 2
    except DistillationError as error:
        print(f"guardlib.distillation: {_in_options(error)}", file=sys.stderr)
        return 1


def _in_options(error: Exception) -> str:
    """An error's line with the options of this command in place of the workbook's settings."""
    line = str(error).replace("-p distillation.resume=false", "--no-resume")
    return line.replace("-p distillation.learning_rate=", "--learning-rate ")


def run(options: argparse.Namespace) -> int:
    """Check the pair, distil, evaluate, save the student."""
    names = {field.name for field in dataclasses.fields(DistillationConfig)}
    given = {name: value for name, value in vars(options).items() if name in names and value is not None}
    config = dataclasses.replace(_DEFAULTS, **given)
    check_settings(config)
    processes = Processes()
    texts = split_files(options.text) if options.text else stage_texts(options.profile)
    teacher = load_language_model(options.teacher, teacher_dtype(config.precision))
    student = load_language_model(options.student)
    for side, model in (("student", student), ("teacher", teacher)):
        check_length(side, model, config.max_length)
    parts = [Pieces.cut(part, config.max_length, student.tokenizer, teacher.tokenizer) for part in texts]
    for part in parts:
        for side, model, longest in zip(("student", "teacher"), (student, teacher), part.longest, strict=True):
            check_length(side, model, longest)
    train, validation, test = parts
    settled = match(teacher, student, validation, config.layer_map)
    if processes.first:
        describe(parts, settled, config, processes)
    folder = options.output
    distil(student, train, validation, config, folder, RECIPES[options.recipe], teacher, settled, options.seed)
    if not processes.first:  # which writes what all of them have
        return 0
    student.model.to(own_dtype(options.student))  # trained in float32, for steps smaller than half precision can tell
    save_language_model(student, folder / "student")
    results = {
        "teacher": perplexity(teacher, test, "teacher")._asdict(),
        "student": perplexity(student, test)._asdict(),
        "retention": retention(teacher, student, settled, test)._asdict(),
        "coverage": settled.coverage,
        "sizes": compression(teacher, student, test).to_dict("records"),
    }
    if RECIPES[options.recipe].routed:
        results["expert_use"] = collapse_reports(pd.read_csv(folder / "steps.csv"))
    (folder / "results.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(results, indent=2))
    return 0


def describe(parts: Sequence[Pieces], settled: Match, config: DistillationConfig, processes: Processes) -> None:
    """Print what is learnt from, by how many, and how the two models fit."""
    train, validation, test = map(len, parts)
    print(f"{train:,} training, {validation:,} validation and {test:,} test sequences of {config.max_length} tokens")
    if processes.count > 1:
        together = processes.count * config.accumulate * config.batch_size
        print(f"{processes.count} processes; a step is of {together} sequences")
    print("coverage: " + ", ".join(f"{name} {share:.1%}" for name, share in settled.coverage.items()))
    print(f"student layers learn from teacher layers {', '.join(map(str, settled.layers))}")


def check_settings(config: DistillationConfig) -> None:
    """ConfigError for a setting out of range."""
    for name in ("batch_size", "epochs", "max_steps", "accumulate", "evaluate_every", "top_k"):
        value = getattr(config, name)
        if value is not None and value < 1:
            raise ConfigError(f"--{name.replace('_', '-')} is {getattr(config, name)}; expected at least 1")
    if not 0 <= config.alpha <= 1:
        raise ConfigError(f"--alpha is {config.alpha}; expected a share between 0 and 1")
    for name in ("temperature", "learning_rate"):
        if not getattr(config, name) > 0:  # also true for NaN
            option = f"--{name.replace('_', '-')}"
            raise ConfigError(f"{option} is {getattr(config, name)}; expected a number above 0")
    if config.precision not in _PRECISIONS:
        raise ConfigError(f"--precision is {config.precision!r}; expected one of {', '.join(_PRECISIONS)}")


class Texts(NamedTuple):
    """What is learnt from, what chooses the weights, and what measures them."""

    train: list[str]
    validation: list[str]
    test: list[str]


def stage_texts(profile: str) -> Texts:
    """The open text of 01_data's splits, which have no near copies of each other. Raises PairError for one missing."""
    paths = [stage_folder(profile, "01_data") / f"{split}.parquet" for split in Texts._fields]
    for path in paths:
        if not path.is_file():
            raise PairError(
                f"{path} does not exist; give texts with --text, or run: python run_all.py --profile {profile} "
                "--only 01"
            )
    return Texts(*(open_text(pd.read_parquet(path)) for path in paths))


def split_files(paths: Sequence[Path]) -> Texts:
    """Texts of files in their order, the last of them held out. Raises PairError for fewer than three."""
    texts = [text for path in paths for text in read_texts(path) if text.strip()]
    if len(texts) < 3:
        raise PairError(
            f"{', '.join(map(str, paths))}: {len(texts)} texts; expected at least 3, to train, to validate and to test "
            "on: a blank line divides the texts of a .txt file, more files follow --text"
        )
    cut = max(round(len(texts) * _HELD_OUT), 1)
    return Texts(texts[: -2 * cut], texts[-2 * cut : -cut], texts[-cut:])


def read_texts(path: Path) -> list[str]:
    """Texts of one file: .txt (a blank line between two), .jsonl or .parquet (column ``text``).

    Raises:
        PairError: another ending, or a file that does not hold what its ending says.
    """
    suffix = path.suffix.lower()
    if suffix not in _SUFFIXES:
        raise PairError(f"{path} ends in {path.suffix!r}; expected one of {', '.join(_SUFFIXES)}: convert it first")
    if suffix == ".txt":
        try:
            return path.read_text(encoding="utf-8").split("\n\n")
        except UnicodeDecodeError as error:
            raise PairError(f"{path} is no UTF-8 text ({error}); expected that, .jsonl or .parquet") from error
    frame = _table(path, suffix)
    if "text" not in frame:
        raise PairError(f"{path} has the columns {', '.join(map(str, frame))}; expected one called text")
    return frame["text"].dropna().astype(str).tolist()


def _table(path: Path, suffix: str) -> pd.DataFrame:
    try:
        return pd.read_json(path, lines=True) if suffix == ".jsonl" else pd.read_parquet(path)
    except ValueError as error:  # pyarrow's and json's own are subclasses
        raise PairError(f"{path} cannot be read ({' '.join(str(error).split())[:200]}); check the file") from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m guardlib.distillation", description="Distil a language model into a smaller one.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--teacher", required=True, help="Hub id or folder; frozen, in half precision where it is fast")
    parser.add_argument("--student", default="HuggingFaceTB/SmolLM-135M", help="Hub id or folder")
    parser.add_argument("--text", type=Path, nargs="*", default=[], help=".txt, .jsonl or .parquet; none: 01_data's")
    parser.add_argument("--profile", choices=list(PROFILES), default="laptop", help="whose 01_data to read")
    home = project_root() / "artifacts" / "distillation"
    parser.add_argument("--output", type=Path, default=home, help="logs, checkpoints, student")
    parser.add_argument("--recipe", choices=list(RECIPES), default="routed", help="what the student is taught with")
    parser.add_argument("--seed", type=int, default=0)
    for name, kind, what in (
        ("batch_size", int, "sequences"),
        ("accumulate", int, "batches per optimizer step"),
        ("epochs", int, "passes over the text"),
        ("max_steps", int, "optimizer steps at most"),
        ("max_length", int, "tokens of a sequence"),
        ("learning_rate", float, "highest"),
        ("alpha", float, "weight of KD; the text itself has the rest"),
        ("temperature", float, "of KD"),
        ("top_k", int, "teacher tokens compared one by one"),
        ("layer_map", str, "uniform, last, first, or the teacher's layers, e.g. 1,3,5"),
        ("patience", int, "evaluations without improvement before stopping; 0: never"),
        ("evaluate_every", int, "optimizer steps"),
        ("precision", str, "auto, float32 or bfloat16"),
    ):
        option = f"--{name.replace('_', '-')}"
        parser.add_argument(option, dest=name, type=kind, default=getattr(_DEFAULTS, name), help=what)
    parser.add_argument("--balance", action="store_true", help="scale the parts to the size of KD")
    parser.add_argument(
        "--resume", action=argparse.BooleanOptionalAction, default=True, help="go on from the checkpoint in --output"
    )
    return parser


if __name__ == "__main__":
    torch.set_float32_matmul_precision("high")
    sys.exit(main())
