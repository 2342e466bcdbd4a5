"""The registry of figures, the checks every figure shares, and how a figure is saved.

A new figure is one function under :func:`figure`: tidy frame in, matplotlib ``Figure`` out, no file access. The tests
over ``FIGURES`` then hold it to the paper's width, labels on each axis, nothing clipped, and identical bytes.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from pandas.api.types import is_numeric_dtype

from guardlib.report.style import FOOTER_HEIGHT, freeze, paper_style

PNG_DPI = 200  # sharp on a page and no picture above 500 KB; for print there is the PDF
PROVENANCE_KEYS = ("run_id", "commit", "profile", "data_hash", "data")
_TEXT_COLUMNS = frozenset(
    {
        "system",
        "label",
        "predicted",
        "source",
        "benchmark",
        "variant",
        "family",
        "policy",
        "measure",
        "metric",
        "kind",
        "formula",
        "precision",
    }
)


@dataclass(frozen=True, slots=True)
class FigureSpec:
    """A registered figure: its name, its function, the columns it needs, and the artifact that has them."""

    name: str
    draw: Callable[..., Figure]
    columns: tuple[str, ...]
    artifact: str


FIGURES: dict[str, FigureSpec] = {}


def figure(*columns: str, artifact: str):
    """Register a figure function that needs ``columns``, usually read from ``artifact`` ("03_train/history.csv").

    The registered function checks its frame, draws in the paper's style and fixes the layout.
    """

    def register(function: Callable[..., Figure]) -> Callable[..., Figure]:
        @functools.wraps(function)
        def draw(frame: pd.DataFrame, *args, **settings) -> Figure:
            checked = check_frame(function.__name__, frame, columns, artifact)
            with paper_style():
                drawn = function(checked, *args, **settings)
                freeze(drawn)
            return drawn

        FIGURES[function.__name__] = FigureSpec(function.__name__, draw, columns, artifact)
        return draw

    return register


def check_frame(what: str, frame: pd.DataFrame, columns: tuple[str, ...], artifact: str = "") -> pd.DataFrame:
    """The frame without rows that lack one of ``columns``, index reset.

    Raises:
        ValueError: not a frame, a column missing, not numeric where numbers are needed, or no complete row left.
    """
    stage = artifact.split("/")[0][:2]
    advice = f"; {artifact} has it: run stage {stage} again" if stage.isdigit() else ""
    needs = f"expected columns {', '.join(columns)}"
    if not isinstance(frame, pd.DataFrame):
        raise ValueError(f"{what}: got {type(frame).__name__}, expected a pandas DataFrame with {needs[9:]}{advice}")
    missing = [column for column in columns if column not in frame.columns]
    if missing:
        has = ", ".join(map(str, frame.columns)) or "no columns"
        raise ValueError(f"{what}: column {', '.join(missing)} is missing (the frame has {has}); {needs}{advice}")
    if frame.empty:
        raise ValueError(f"{what}: the frame has 0 rows; {needs}{advice}")
    for column in columns:
        if column not in _TEXT_COLUMNS and not is_numeric_dtype(frame[column]):
            example = frame[column].iloc[0]
            raise ValueError(f"{what}: column {column} holds {example!r}; expected numbers{advice}")
    complete = frame.replace([np.inf, -np.inf], np.nan).dropna(subset=list(columns)).reset_index(drop=True)
    if complete.empty:
        empty = [column for column in columns if frame[column].isna().all()] or list(columns)
        raise ValueError(f"{what}: no row has a value for {', '.join(empty)}; {needs}{advice}")
    return complete


def check_fractions(what: str, frame: pd.DataFrame, columns: tuple[str, ...]) -> None:
    """ValueError unless every value lies in 0..1: percentages given by mistake would be drawn off the page."""
    for column in columns:
        if column in frame and not frame[column].dropna().between(0, 1).all():
            worst = frame[column].loc[frame[column].sub(0.5).abs().idxmax()]
            raise ValueError(f"{what}: {column} holds {worst:g}; expected a fraction between 0 and 1, not a percentage")


def check_provenance(provenance: dict) -> dict[str, str]:
    """The five keys as one-line strings; ValueError names those that are missing."""
    missing = [key for key in PROVENANCE_KEYS if key not in provenance]
    if missing:
        raise ValueError(f"provenance lacks {', '.join(missing)}; expected the keys {', '.join(PROVENANCE_KEYS)}")
    return {key: " ".join(str(provenance[key]).split()) for key in PROVENANCE_KEYS}


def provenance_line(provenance: dict) -> str:
    """``profile laptop · commit abc1234 · data 9f3e12ab… · run 12ab34cd… · built-in corpus only``."""
    values = check_provenance(provenance)
    short = {key: value if len(value) <= 9 else value[:8] + "…" for key, value in values.items()}
    commit = re.sub(r"^([0-9a-f]{7})[0-9a-f]+", r"\1", values["commit"])  # what follows the hash ("+changes") stays
    origin = values["data"] if len(values["data"]) <= 80 else values["data"][:79] + "…"
    parts = (
        f"profile {values['profile']}",
        commit if commit.startswith("no ") else f"commit {commit}",
        f"data {short['data_hash']}",
    )
    return " · ".join((*parts, f"run {short['run_id']}", origin))


def save_figure(fig: Figure, folder: str | Path, name: str, provenance: dict) -> list[Path]:
    """Write ``name.pdf`` and ``name.png`` (PNG_DPI) with provenance in a grey footer and in the files' metadata.

    The same figure and provenance give the same bytes. Each file appears whole or not at all.

    Args:
        provenance: run_id, commit, profile, data_hash and data (one line on where the data came from).

    Raises:
        ValueError: a provenance key is missing, or ``name`` is not a plain file name.
        OSError: the folder cannot be written; the message names it.
    """
    values = check_provenance(provenance)
    line = provenance_line(values)
    metadata = {
        "pdf": {
            "Title": name,
            "Subject": line,
            "Keywords": json.dumps(values, sort_keys=True),
            "Creator": "guardlib",
            "Producer": "guardlib",
            "CreationDate": None,
        },
        "png": {"Software": "guardlib", "Title": name, "Description": line, **values},
    }
    with paper_style():
        height = fig.get_size_inches()[1]
        footer = fig.text(0.5, 0.3 * FOOTER_HEIGHT / height, line, ha="center", va="bottom", size=5, color="#8C8C8C")
        footer.set_in_layout(False)
        _shrink_to_width(fig, footer)
        try:
            contents = {suffix: _render(fig, suffix, metadata[suffix]) for suffix in ("pdf", "png")}
        finally:
            footer.remove()
    return [write_whole(folder, f"{name}.{suffix}", content) for suffix, content in contents.items()]


def write_whole(folder: str | Path, name: str, content: bytes) -> Path:
    """Write ``folder/name`` through a temporary file, so a full disk never leaves half a file.

    Raises:
        ValueError: ``name`` is not a plain file name.
        OSError: the folder cannot be made or written.
    """
    if not name or Path(name).name != name or name.startswith("."):
        raise ValueError(f"file name {name!r} is not plain; expected a name without folders")
    path = Path(folder) / name
    temporary = path.with_name(f".{name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        advice = "make the folder writable or free space, then run again"
        raise OSError(f"cannot write {path} ({error.strerror or error}); {advice}") from error
    return path


def _render(fig: Figure, suffix: str, metadata: dict) -> bytes:
    buffer = io.BytesIO()
    fig.savefig(buffer, format=suffix, dpi=PNG_DPI, metadata=metadata)
    return buffer.getvalue()


def _shrink_to_width(fig: Figure, text) -> None:
    """Shrink a text that would be wider than the figure."""
    width = text.get_window_extent().width
    room = 0.97 * fig.bbox.width
    if width > room:
        text.set_size(text.get_size() * room / width)
