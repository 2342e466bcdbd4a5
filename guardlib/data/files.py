"""A user's own files: read whatever their kind, and as training rows next to the registered sets."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from guardlib.config import DataConfig
from guardlib.data.catalogue import SOURCES, TRAIN
from guardlib.data.corpus import PARTS
from guardlib.data.generated import MADE
from guardlib.data.records import SourceError, read_flag, screen
from guardlib.data.sources import SourceResult
from guardlib.labels import LABEL_NAMES, Label

ENDINGS = (".txt", ".csv", ".json", ".jsonl", ".yaml", ".yml", ".parquet")
_OWN = ("family", "lang")  # taken where the file has them
#: Sources that no file may be named as: its rows would be taken for theirs.
_TAKEN = frozenset({*SOURCES, *MADE, *(f"corpus_{part}" for part in PARTS)})
#: What names a class besides flags: its name and, as in the records of this package, its number. 0 and 1 say the same
#: as a number and as a flag.
_CLASSES = {name: Label(number) for number, name in enumerate(LABEL_NAMES)} | {
    str(number): label for label in Label for number in (int(label), float(label))
}


def load_files(settings: DataConfig) -> dict[str, SourceResult]:
    """The rows of each of ``data.files`` by its path; a file's rows have its name as their source.

    Raises:
        SourceError: one of them cannot be used (see :func:`load_file`), has the name of another or of a source, or
            ``data.file_columns`` is no pair. One line.
    """
    if len(settings.file_columns) != 2:
        raise SourceError(
            f"data.file_columns is {settings.file_columns!r}; expected the names of the text and the label"
        )
    named: dict[str, str] = {}
    for path in settings.files:
        name = Path(path).stem
        if name in _TAKEN:
            raise SourceError(f"{path}: its rows would count as those of the source {name!r}; rename the file")
        if name in named:
            raise SourceError(f"{path}: its rows would count as those of {named[name]}, which has its name; rename one")
        named[name] = path
    return {path: load_file(path, *settings.file_columns) for path in settings.files}


def load_file(path: Path | str, text: str = "text", label: str = "label") -> SourceResult:
    """The rows of a file as records, all for training; what is unusable is set aside with its reason.

    Args:
        text, label: the file's names for these columns. A label is a class (``jailbreak`` or its number, 2), or a flag
            in any of the usual forms (1, True, "unsafe", …), where an attack counts as DIRECT_INJECTION.

    Raises:
        SourceError: the file is missing, damaged, of another kind, lacks a column or has no row that can be used. One
            line.
    """
    path = Path(path).expanduser()
    frame = read_table(path)
    if missing := [column for column in (text, label) if column not in frame.columns]:
        raise SourceError(
            f"{path}: column(s) {', '.join(missing)} missing, found {', '.join(map(str, frame.columns))}; "
            'name yours with -p data.file_columns=\'["TEXT", "LABEL"]\''
        )
    family, lang = (
        frame[name].fillna("").astype(str).tolist() if name in frame.columns else [""] * len(frame) for name in _OWN
    )
    rows, quarantined = screen(
        frame[text].tolist(), [read_label(value) for value in frame[label]], family, lang, path.stem, "train"
    )
    if rows.empty:
        why = f"row 0: {quarantined[0]['reason']}" if quarantined else "it is empty"
        raise SourceError(
            f"{path}: none of its {len(frame)} rows can be used ({why}); expected texts, and labels that are flags or "
            f"one of {', '.join(LABEL_NAMES)}"
        )
    return SourceResult(rows, "file", len(rows), quarantined, {"train": TRAIN})


def read_table(path: Path) -> pd.DataFrame:
    """The rows of a file as plain values: text (one a line, column ``text``), CSV, JSON, JSON lines, YAML or parquet.

    Raises:
        SourceError: it ends otherwise, is missing or damaged, or is no list of entries. One line.
    """
    kind = path.suffix.lower()
    if kind not in ENDINGS:
        raise SourceError(f"{path}: ending {path.suffix!r} is not known; expected one of {', '.join(ENDINGS)}")
    try:
        if kind == ".txt":
            lines = path.read_text(encoding="utf-8").split("\n")
            return pd.DataFrame({"text": [line for line in lines if line.strip()]}, dtype=object)
        if kind == ".csv":
            frame = pd.read_csv(path, dtype=object, keep_default_na=False)  # "NA" is a text like any other
            if not isinstance(frame.index, pd.RangeIndex):  # pandas took the first fields for names of the rows
                raise ValueError("its first row has more fields than the header; quote texts that hold a comma")
            return frame
        if kind == ".parquet":
            return pd.read_parquet(path)
        return pd.DataFrame(_entries(path.read_text(encoding="utf-8"), kind), dtype=object)
    except UnicodeDecodeError as error:
        raise SourceError(f"{path} cannot be read ({error}); save it as UTF-8") from error
    except (OSError, ValueError) as error:  # pandas, pyarrow and json raise subclasses of these
        raise SourceError(f"{path} cannot be read ({' '.join(str(error).split())[:200]}); check the file") from error


def _entries(text: str, kind: str) -> list[dict]:
    if kind == ".jsonl":
        values = [json.loads(line) for line in text.split("\n") if line.strip()]
    elif kind == ".json":
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


def read_label(value: object) -> Label | str:
    """The class that ``value`` names, or why it names none."""
    if (named := _CLASSES.get(str(value).strip().lower())) is not None:
        return named
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
