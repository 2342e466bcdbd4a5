"""Rows: what makes a text usable, how labels are read, and seeds that do not depend on the order of calls."""

from __future__ import annotations

import hashlib
import math
import unicodedata
import zlib
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from guardlib.labels import RECORD_COLUMNS, Label

#: One row longer than this is a document dump, not a prompt; it is set aside.
MAX_CHARACTERS = 100_000

_TRUE = frozenset({"1", "1.0", "true", "yes", "attack", "malicious", "injection", "jailbreak", "unsafe", "harmful"})
_FALSE = frozenset({"0", "0.0", "false", "no", "benign", "legit", "safe", "unharmful"})


class SourceError(ValueError):
    """A source that cannot be had or does not look as expected; the message is one line and names the next step."""


class FormatError(SourceError):
    """A source that is there but does not look as expected: wrong columns, missing splits, a damaged file."""


def rng_for(seed: int, *names: str) -> np.random.Generator:
    """A generator that depends on ``seed`` and ``names`` only, so adding a source changes no other source's sample."""
    return np.random.default_rng([seed, *(zlib.crc32(name.encode()) for name in names)])


def frame_digest(frame: pd.DataFrame) -> str:
    """Digest of records in their order: what each says, and what decides how often and where it is read.

    Their groups, too: of an attack and its benign twin the words that they do not share are those that were planted.
    """
    digest = hashlib.sha256()
    for values in zip(*(frame[name] for name in ("text", "label", "source", "family", "lang", "group")), strict=True):
        digest.update("\0".join(map(str, values)).encode("utf-8", "surrogatepass") + b"\n")
    return digest.hexdigest()[:16]


def rounds(size: int, count: int, rng: np.random.Generator) -> list[int]:
    """``count`` of the numbers below ``size``: all of them before any comes again."""
    return np.concatenate([rng.permutation(size) for _ in range(-(-count // size))])[:count].tolist() if count else []


def fold(text: str) -> str:
    """NFKC, case-folded, runs of whitespace as one space: two texts that fold alike are the same text."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def why_unusable(text: object) -> str | None:
    """Why ``text`` cannot be a row, in a few words; None where it can."""
    if not isinstance(text, str):
        return f"text is {type(text).__name__}, expected str"
    if not text.strip():
        return "text is empty or whitespace"
    if len(text) > MAX_CHARACTERS:
        return f"text has {len(text):,} characters, at most {MAX_CHARACTERS:,} are taken"
    if "\x00" in text:
        return "text holds a NUL byte"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "text holds a lone surrogate"
    return None


def read_flag(value: object) -> bool | None:
    """``value`` as attack (True) or benign (False); None where it is neither.

    Sets write it as int, bool, float (0.0 / 1.0) or str ("1", "true", "injection", …).
    """
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, int | float | np.integer | np.floating):
        return bool(value) if not math.isnan(value) and value in (0, 1) else None
    if isinstance(value, str):
        word = value.strip().lower()
        return True if word in _TRUE else False if word in _FALSE else None
    return None


def empty_records() -> pd.DataFrame:
    """No rows, RECORD_COLUMNS."""
    return to_records([])


def to_records(rows: Iterable[Sequence]) -> pd.DataFrame:
    """Tuples in the order of RECORD_COLUMNS → frame; ``label`` and ``group`` int64, the rest str."""
    frame = pd.DataFrame(list(rows), columns=list(RECORD_COLUMNS))
    return frame.astype(
        {"label": "int64", "group": "int64"} | {c: "str" for c in RECORD_COLUMNS if c not in ("label", "group")}
    )


def screen(texts: Sequence, labels: Sequence, families: Sequence, langs: Sequence, source: str, split: str):
    """Usable rows as a records frame, and the others as quarantine rows.

    A label is a :class:`Label` (or its value); anything else is a reason, as text, why the row is set aside.
    Returns ``(frame, quarantined)``; a quarantined row is ``{source, split, row, reason, text}``, its text cut to
    200 characters and made printable, its number that in the index of ``texts``, where they have one.
    """
    rows, quarantined = [], []
    numbers = texts.index.tolist() if isinstance(texts, pd.Series) else range(len(texts))
    for number, text, label, family, lang in zip(numbers, texts, labels, families, langs, strict=True):
        reason = why_unusable(text) or (label if isinstance(label, str) else None)
        if reason is None:
            rows.append((text, int(Label(label)), source, family, -1, lang, split))
        else:
            shown = str(text)[:200].encode("ascii", "backslashreplace").decode().replace("\x00", "\\x00")
            quarantined.append({"source": source, "split": split, "row": number, "reason": reason, "text": shown})
    return to_records(rows), quarantined
