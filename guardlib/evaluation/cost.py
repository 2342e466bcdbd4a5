"""Where the time of a verdict goes, and how it grows with the length of the text."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from guardlib.evaluation.timings import length_bucket
from guardlib.runtime.guard import Guard
from guardlib.text.reading import TOKENS_PER_BATCH, batches_by_length, distinct_windows
from guardlib.text.tokenizer import sanitize

STEPS = ("views", "word pieces", "characters", "windows", "front graph", "deep graph", "verdict")


def breakdown(guard: Guard, texts: Sequence[str]) -> pd.DataFrame:
    """Median milliseconds of each step of a scan, by what is read; the verdict is what is left of the whole.

    Returns:
        ``tokens`` (bucket; of all windows of all views, so that a text with two views counts twice), ``n``, a column
        per step of :data:`STEPS` (ms), ``whole`` (ms, of ``Guard.scan``).
    """
    for text in texts[:8]:
        guard.scan(text, truncate=True)
    rows = pd.DataFrame([_steps(guard, sanitize(text)) for text in texts])
    rows["bucket"] = length_bucket(rows["tokens"])
    groups = rows.groupby("bucket", observed=True)
    table = 1000 * groups[[*STEPS, "whole"]].median()
    table.insert(0, "n", groups.size())
    return table.reset_index().rename(columns={"bucket": "tokens"})


def _steps(guard: Guard, text: str) -> dict[str, float]:
    guard.scan(text, truncate=True)  # or the first steps would be slowed by all that is new about the text
    spent = dict.fromkeys(STEPS, 0.0)

    def timed(step: str, call: Callable, *arguments):
        started = time.perf_counter()
        result = call(*arguments)
        spent[step] += time.perf_counter() - started
        return result

    reader, tokenizer, limit = guard.reader, guard.reader.tokenizer, guard.settings.calibration.router_threshold
    views = [view.text for view in timed("views", reader.views, text)]
    cut = timed("word pieces", tokenizer.cut, views)
    for view, encoding in zip(views, cut, strict=True):
        timed("characters", tokenizer.pieces, view, encoding)
    done, started = sum(spent.values()), time.perf_counter()
    windows = reader.windows([text])
    spent["windows"] = max(time.perf_counter() - started - done, 0.0)  # it takes the steps above, too
    read, _ = timed("windows", distinct_windows, windows)
    for rows in batches_by_length([len(window) for window in read], TOKENS_PER_BATCH):
        batch = timed("windows", reader.collate, [read[row] for row in rows])
        hidden, _, router, _ = timed("front graph", guard.model.front, batch)
        sent = router >= limit
        if sent.any():
            timed("deep graph", guard.model.deep, hidden[sent], batch.attention_mask[sent])
    started = time.perf_counter()
    guard.scan(text, truncate=True)
    whole = time.perf_counter() - started
    spent["verdict"] = max(whole - sum(spent.values()), 0.0)
    return {"tokens": sum(map(len, windows)), **spent, "whole": whole}


def by_length(
    guard: Guard,
    texts: Sequence[str],
    lengths: Sequence[int] = (100, 300, 1_000, 3_000, 10_000, 30_000, 100_000),
    repeats: int = 3,
) -> pd.DataFrame:
    """Time of one text of each length, made of ``texts`` one after another.

    Returns:
        ``characters, windows, milliseconds`` (median), ``ms_per_1000_characters`` (flat where cost is linear).

    Raises:
        ValueError: no texts that hold anything.
    """
    material = "\n".join(texts)
    if not material.strip():
        raise ValueError("by_length got no texts; expected at least one with words")
    rows = []
    for length in lengths:
        text = sanitize((material * (length // len(material) + 1))[:length])
        windows = len(guard.score_windows([text]).windows)
        seconds = [_time(guard, text) for _ in range(repeats)]
        ms = 1000 * float(np.median(seconds))
        rows.append((length, windows, ms, 1000 * ms / length))
    return pd.DataFrame(rows, columns=["characters", "windows", "milliseconds", "ms_per_1000_characters"])


def _time(guard: Guard, text: str) -> float:
    started = time.perf_counter()
    guard.scan(text)
    return time.perf_counter() - started
