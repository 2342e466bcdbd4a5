"""A file of prompts as rows: text, CSV, JSON, JSON lines, YAML or parquet, labelled or not."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from guardlib.data.files import read_label, read_table
from guardlib.data.records import SourceError, why_unusable
from guardlib.labels import LABEL_NAMES

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
    try:
        raw = read_table(path)
    except SourceError as error:
        raise PromptFileError(str(error)) from error
    if raw.empty:
        raise PromptFileError(f"{path} holds no prompts; expected at least one")
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


def _label(path: Path, number: int, value: object) -> int:
    label = read_label(value)
    if isinstance(label, str):
        shown = "missing" if value == "" or pd.isna(value) else f"{value!r}"
        raise PromptFileError(
            f"{path}: row {number}: label is {shown}; expected 0, 1, true, false or one of {', '.join(LABEL_NAMES)}"
        )
    return int(label)
