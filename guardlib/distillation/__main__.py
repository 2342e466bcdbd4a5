"""``python -m guardlib.distillation --teacher … --student …``: distil any pair of causal language models.

    python -m guardlib.distillation --batch-size 2 --epochs 3 --teacher path/to/moe --student HuggingFaceTB/SmolLM-135M
    torchrun --nproc-per-node 2 -m guardlib.distillation --teacher … --student …      several processes
    python -m guardlib.distillation --teacher … --student … --output runs/a   the same again goes on where it stopped

Exit code 0: done; 1: training stopped; 2: the pair, the text or a setting is wrong (one line on standard error).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch
from accelerate import PartialState

from guardlib.config import PROFILES, ConfigError, DistillationConfig
from guardlib.distillation.errors import DistillationError, PairError
from guardlib.distillation.evaluation import compression, perplexity, retention
from guardlib.distillation.objective import RECIPES
from guardlib.distillation.pair import check_length, load_language_model, match, save_language_model, teacher_dtype
from guardlib.distillation.text import Pieces, open_text
from guardlib.distillation.trainer import distil
from guardlib.paths import stage_folder
from guardlib.training.checkpoint import CheckpointError

_VALIDATION = 0.05  # of the texts, the last ones
_DEFAULTS = DistillationConfig(
    max_length=256, batch_size=2, epochs=3, max_steps=None, learning_rate=3e-4, evaluate_every=200
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    options = _parser().parse_args(arguments)
    try:
        return run(options)
    except (PairError, ConfigError, CheckpointError, OSError) as error:
        print(f"guardlib.distillation: {error}", file=sys.stderr)
        return 2
    except DistillationError as error:
        print(f"guardlib.distillation: {error}", file=sys.stderr)
        return 1


def run(options: argparse.Namespace) -> int:
    """Check the pair, distil, evaluate, save the student."""
    names = {field.name for field in dataclasses.fields(DistillationConfig)}
    given = {name: value for name, value in vars(options).items() if name in names and value is not None}
    config = dataclasses.replace(_DEFAULTS, **given)
    check_settings(config)
    texts = read_texts(options.text, options.profile)
    teacher = load_language_model(options.teacher, teacher_dtype(config.precision))
    student = load_language_model(options.student)
    for side, model in (("student", student), ("teacher", teacher)):
        check_length(side, model, config.max_length)
    cut = max(round(len(texts) * _VALIDATION), 1)
    if len(texts) < 2:
        raise PairError(f"{len(texts)} texts; expected at least 2, one of them to validate on: give more with --text")
    train, validation = (
        Pieces.cut(part, config.max_length, student.tokenizer, teacher.tokenizer)
        for part in (texts[:-cut], texts[-cut:])
    )
    for side, model, longest in zip(("student", "teacher"), (student, teacher), train.longest, strict=True):
        check_length(side, model, longest)
    settled = match(teacher, student, validation, config.layer_map)
    print(f"{len(train):,} training and {len(validation):,} validation sequences of {config.max_length} tokens")
    print("coverage: " + ", ".join(f"{name} {share:.1%}" for name, share in settled.coverage.items()))
    print(f"student layers learn from teacher layers {', '.join(map(str, settled.layers))}")
    folder = options.output
    distil(student, train, validation, config, folder, RECIPES[options.recipe], teacher, settled, options.seed)
    if not PartialState().is_main_process:  # the first writes what all of them have
        return 0
    save_language_model(student, folder / "student")
    results = {
        "teacher": perplexity(teacher, validation, "teacher")._asdict(),
        "student": perplexity(student, validation)._asdict(),
        "retention": retention(teacher, student, settled, validation)._asdict(),
        "coverage": settled.coverage,
        "sizes": compression(teacher, student, validation).to_dict("records"),
    }
    (folder / "results.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(results, indent=2))
    return 0


def check_settings(config: DistillationConfig) -> None:
    """ConfigError for a setting out of range."""
    for name in ("batch_size", "epochs", "max_steps", "accumulate", "evaluate_every", "top_k"):
        value = getattr(config, name)
        if value is not None and value < 1:
            raise ConfigError(f"--{name.replace('_', '-')} is {getattr(config, name)}; expected at least 1")
    if not 0 <= config.alpha <= 1:
        raise ConfigError(f"--alpha is {config.alpha}; expected a share between 0 and 1")
    if config.temperature <= 0:
        raise ConfigError(f"--temperature is {config.temperature}; expected a number above 0")


def read_texts(paths: Sequence[Path], profile: str) -> list[str]:
    """Texts of files: .txt (paragraphs), .jsonl or .parquet (column ``text``); without any, the open text of 01_data.

    Raises:
        PairError: no file, or no text in them.
    """
    if not paths:
        path = stage_folder(profile, "01_data") / "train.parquet"
        if not path.is_file():
            raise PairError(
                f"{path} does not exist; give texts with --text, or run: python run_all.py --profile {profile} "
                "--only 01"
            )
        return open_text(pd.read_parquet(path))
    texts: list[str] = []
    for path in paths:
        if path.suffix in (".jsonl", ".parquet"):
            frame = _table(path)
            if "text" not in frame:
                raise PairError(f"{path} has the columns {', '.join(map(str, frame))}; expected one called text")
            texts += frame["text"].dropna().astype(str).tolist()
        else:
            try:
                texts += path.read_text(encoding="utf-8").split("\n\n")
            except UnicodeDecodeError as error:
                raise PairError(f"{path} is no UTF-8 text ({error}); expected that, .jsonl or .parquet") from error
    texts = [text for text in texts if text.strip()]
    if not texts:
        raise PairError(f"{', '.join(map(str, paths))} hold 0 texts; expected paragraphs, or rows with a column text")
    return texts


def _table(path: Path) -> pd.DataFrame:
    try:
        return pd.read_json(path, lines=True) if path.suffix == ".jsonl" else pd.read_parquet(path)
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
    parser.add_argument(
        "--output", type=Path, default=Path("artifacts/distillation"), help="logs, checkpoints, student"
    )
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
    return parser


if __name__ == "__main__":
    torch.set_float32_matmul_precision("high")
    sys.exit(main())
