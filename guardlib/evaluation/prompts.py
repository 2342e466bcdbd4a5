"""A file of prompts as rows: text, CSV, JSON, JSON lines, YAML or parquet, labelled or not."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from guardlib.data.records import read_flag, why_unusable
from guardlib.labels import LABEL_NAMES, Label

ENDINGS = (".txt", ".csv", ".json", ".jsonl", ".yaml", ".yml", ".parquet")
_TEXT_NAMES = ("text", "prompt")


class PromptFileError(ValueError):
    """A file of prompts that cannot be used; the message names the file, the row and what was expected."""


def read_prompts(path: Path | str, labelled: bool = False) -> pd.DataFrame:
    """Rows of a file: ``text, label, family, variant, lang``, and ``id`` where the file gives ids.

    A ``.txt`` file has one prompt a line. The others have a column (or key) ``text`` or ``prompt`` and, if they like,
    ``label`` (0/1, true/false, or a class such as ``jailbreak``; a plain 1 is a direct injection), ``category`` (which
    becomes the family), ``lang`` and ``id``. Without labels ``label`` is -1.

    Args:
        labelled: a label per row is required.

    Raises:
        PromptFileError: no such file, another ending, wrong columns, ids given twice, labels missing or unknown, texts
            that are empty or no text.
    """
    path = Path(path)
    raw = _read(path)
    text = next((name for name in _TEXT_NAMES if name in raw.columns), None)
    needed = ["label"] if labelled and "label" not in raw.columns else []
    needed += [] if text else ["text"]
    if needed:
        found = ", ".join(map(str, raw.columns)) or "none"
        wanted = "text, label" if labelled else "text"
        raise PromptFileError(
            f"{path}: column(s) {', '.join(sorted(needed))} missing; expected {wanted}, found {found}"
        )
    for number, value in enumerate(raw[text]):
        if why := why_unusable(value):
            raise PromptFileError(f"{path}: row {number}: {why}; expected a text with words")
    if "id" in raw.columns and (twice := raw["id"].duplicated()).any():
        first = int(twice.to_numpy().argmax())
        raise PromptFileError(f"{path}: row {first}: id {raw['id'].iat[first]!r} appears twice; expected unique ids")
    rows = pd.DataFrame({"text": raw[text].astype(str)})
    rows["label"] = [_label(path, n, v) for n, v in enumerate(raw["label"])] if "label" in raw.columns else -1
    rows["family"] = raw["category"].astype(str) if "category" in raw.columns else path.stem
    rows["lang"] = raw["lang"].fillna("").astype(str) if "lang" in raw.columns else ""
    if "id" in raw.columns:
        rows["id"] = raw["id"].astype(str)
    return rows.assign(variant="")


def _read(path: Path) -> pd.DataFrame:
    if path.suffix not in ENDINGS:
        raise PromptFileError(f"{path}: ending {path.suffix!r} is not known; expected one of {', '.join(ENDINGS)}")
    try:
        if path.suffix == ".txt":
            lines = path.read_text(encoding="utf-8").splitlines()
            return pd.DataFrame({"text": [line for line in lines if line.strip()]}, dtype=object)
        if path.suffix == ".csv":
            return pd.read_csv(path, dtype=object)
        if path.suffix == ".parquet":
            return pd.read_parquet(path)
        return pd.DataFrame(_records(path), dtype=object)
    except (OSError, ValueError) as error:
        raise PromptFileError(f"{path} cannot be read ({' '.join(str(error).split())[:200]})") from error


def _records(path: Path) -> list[dict]:
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".jsonl":
        values = [json.loads(line) for line in text.splitlines() if line.strip()]
    elif path.suffix == ".json":
        values = json.loads(text)
    else:
        import yaml

        try:
            values = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ValueError(error) from error
    if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
        raise ValueError("expected a list of entries with text and label")
    return values


def _label(path: Path, number: int, value: object) -> int:
    if isinstance(value, str) and value.strip().lower() in LABEL_NAMES:
        return LABEL_NAMES.index(value.strip().lower())
    flag = read_flag(value)
    if flag is None:
        shown = "missing" if pd.isna(value) else f"{value!r}"
        raise PromptFileError(
            f"{path}: row {number}: label is {shown}; expected 0, 1, true, false or one of {', '.join(LABEL_NAMES)}"
        )
    return int(Label.DIRECT_INJECTION) if flag else int(Label.BENIGN)
