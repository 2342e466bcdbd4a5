"""A user's own CSV, JSONL or parquet file as training rows, next to the registered sets."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from guardlib.data.catalogue import TRAIN
from guardlib.data.records import SourceError, read_flag, screen
from guardlib.data.sources import SourceResult
from guardlib.labels import LABEL_NAMES, Label

_READERS = {
    ".csv": lambda path: pd.read_csv(path, dtype=object, keep_default_na=False),
    ".jsonl": lambda path: pd.read_json(path, lines=True, dtype=False, convert_dates=False),
    ".parquet": pd.read_parquet,
}
_OWN = ("family", "lang")  # taken where the file has them


def load_file(path: Path | str, text: str = "text", label: str = "label") -> SourceResult:
    """The rows of a file as records, all for training; what is unusable is set aside with its reason.

    Args:
        text, label: the file's names for these columns. A label is a class (``jailbreak``), or a flag in any of the
            usual forms (1, True, "unsafe", …), where an attack counts as DIRECT_INJECTION.

    Raises:
        SourceError: the file is missing, damaged, of another kind, or lacks a column. One line.
    """
    path = Path(path).expanduser()
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise SourceError(f"{path}: files end in {', '.join(_READERS)}; convert it or rename it")
    try:
        frame = reader(path)
    except (OSError, ValueError) as error:  # pandas and pyarrow raise subclasses of these
        raise SourceError(f"{path} cannot be read ({' '.join(str(error).split())}); check data.files") from error
    if missing := [column for column in (text, label) if column not in frame.columns]:
        raise SourceError(
            f"{path}: column(s) {', '.join(missing)} missing, found {', '.join(map(str, frame.columns))}; "
            'name yours with -p data.file_columns=\'["TEXT", "LABEL"]\''
        )
    family, lang = (
        frame[name].fillna("").astype(str).tolist() if name in frame.columns else [""] * len(frame) for name in _OWN
    )
    rows, quarantined = screen(
        frame[text].tolist(), [_label(value) for value in frame[label]], family, lang, path.stem, "train"
    )
    return SourceResult(rows, "file", len(rows), quarantined, {"train": TRAIN})


def _label(value: object) -> Label | str:
    """The class that ``value`` names, or why it names none."""
    if isinstance(value, str) and value.strip().lower() in LABEL_NAMES:
        return Label(LABEL_NAMES.index(value.strip().lower()))
    flag = read_flag(value)
    if flag is None:
        return f"label {value!r} is no flag and none of {', '.join(LABEL_NAMES)}"
    return Label.DIRECT_INJECTION if flag else Label.BENIGN


def file_status(path: Path | str, result: SourceResult) -> dict:
    """The ``sources.json`` row of a file."""
    labels = result.frame["label"]
    return {
        "name": Path(path).stem,
        "dataset_id": str(path),
        "config": None,
        "revision": None,
        "licence": "the user's own",
        "permissive": True,
        "kind": "benign" if (labels == 0).all() else "attack" if (labels != 0).all() else "mixed",
        "origin": "file",
        "used": True,
        "rows": result.rows,
        "quarantined": len(result.quarantined),
        "why_not": "",
    }
