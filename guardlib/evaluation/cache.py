"""Answers of systems, kept by what they depend on: a second run of stage 05 computes only what has changed.

One parquet file per system, named by the hash of everything its answer depends on besides the text; a row per text,
found by the text's hash. A file of an older hash is deleted when the new one is written.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import pandas as pd


def text_key(text: str) -> str:
    """Hash of a text, as it stands."""
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=16).hexdigest()


class AnswerCache:
    """Answers in ``folder``; None keeps nothing. An answer is a row of any columns, indexed by :func:`text_key`."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def read(self, system: str, key: str, columns: Sequence[str]) -> pd.DataFrame:
        """Known answers of ``system`` under ``key``, none where there is no whole file with ``columns``."""
        empty = pd.DataFrame(columns=list(columns))
        if self._folder is None:
            return empty
        try:
            table = pd.read_parquet(self._path(system, key))
        except (OSError, ValueError):  # absent, or cut short by a crash: computed again
            return empty
        return table if set(columns) <= set(table.columns) else empty

    def write(self, system: str, key: str, answers: pd.DataFrame) -> None:
        """Keep ``answers``, and drop what ``system`` answered under other keys."""
        if self._folder is None:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._path(system, key)
        partial = path.with_suffix(".partial")
        answers.to_parquet(partial)
        os.replace(partial, path)
        for old in self._folder.glob(f"{system}@*.parquet"):
            if old != path:
                old.unlink()

    def _path(self, system: str, key: str) -> Path:
        return self._folder / f"{system}@{key[:16]}.parquet"
