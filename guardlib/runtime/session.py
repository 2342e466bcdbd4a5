"""The released model as two ONNX sessions, read from a guard folder whose digests are checked first. Torch-free.

Legend: N texts, W windows, B batch, L tokens, D width, K classes.
"""

from __future__ import annotations

import functools
import hashlib
import json
import numbers
import os
import platform
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import onnxruntime

from guardlib.labels import LABEL_NAMES, NUM_CLASSES
from guardlib.paths import RELEASE, run_again
from guardlib.runtime.decision import Calibration, WindowScores
from guardlib.text.reading import TOKENS_PER_BATCH, Batch, Reader, batches_by_length, distinct_windows

FORMAT = 1  # of the guard folder; raised when an older reader would misread it
FRONT, DEEP, TOKENIZER, SETTINGS, DIGESTS = "front.onnx", "deep.onnx", "tokenizer.json", "guard.json", "sha256.json"
FILES = (FRONT, DEEP, TOKENIZER, SETTINGS)


class GuardLoadError(RuntimeError):
    """A guard folder that is missing, truncated, changed, or of a format this version does not read."""


@dataclass(frozen=True, slots=True)
class GuardSettings:
    """``guard.json``: everything besides weights and word pieces that a verdict depends on, and where it came from."""

    format: int
    version: str  # of guardlib that wrote it
    profile: str
    precision: str
    labels: tuple[str, ...]
    max_length: int
    chars_per_token: int
    char_buckets: int
    use_views: bool
    lookalikes: dict[str, str]
    word_order: dict[str, float]
    calibration: Calibration
    target_fpr: float  # of calibration.threshold_at_fpr
    notes: str  # origin of the training data
    commit: str


def make_again(folder: Path) -> str:
    """What to do about a guard folder that is damaged."""
    return "install guardlib again" if folder.resolve() == RELEASE else run_again(folder, "06")


def parse_settings(raw: bytes, path: Path) -> GuardSettings:
    """``guard.json`` as settings; keys of a later minor version are ignored.

    Raises:
        GuardLoadError: not JSON, a key missing, another format or other labels.
    """
    try:
        values = json.loads(raw)
        if values["format"] != FORMAT:
            raise GuardLoadError(
                f"{path} has format {values['format']!r}, this version reads {FORMAT}: install the guardlib that "
                f"wrote it ({values.get('version', 'unknown')}), or {make_again(path.parent)}"
            )
        known = {field.name: values[field.name] for field in fields(GuardSettings)}
        known["labels"] = tuple(values["labels"])
        names = {field.name for field in fields(Calibration)}  # those that an older guard lacks keep their defaults
        known["calibration"] = Calibration(**{k: v for k, v in values["calibration"].items() if k in names})
        settings = GuardSettings(**known)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise GuardLoadError(f"{path} is not a guard's settings ({error!r}); {make_again(path.parent)}") from error
    if settings.labels != LABEL_NAMES:
        raise GuardLoadError(f"{path} has labels {settings.labels}, expected {LABEL_NAMES}; {make_again(path.parent)}")
    return settings


def read_verified(folder: Path) -> dict[str, bytes]:
    """The bytes of every file of a guard folder, each equal to its digest in ``sha256.json``.

    Raises:
        GuardLoadError: names the file that is missing, unreadable or not the one that was written.
    """
    again = make_again(folder)
    contents = {}
    for name in (DIGESTS, *FILES):
        try:
            contents[name] = (folder / name).read_bytes()
        except OSError as error:
            raise GuardLoadError(
                f"guard file {folder / name} cannot be read ({error.strerror or error}); {again}"
            ) from error
    try:
        expected = {name: str(json.loads(contents[DIGESTS])[name]) for name in FILES}
    except (ValueError, KeyError, TypeError) as error:
        raise GuardLoadError(f"{folder / DIGESTS} is not a list of digests ({error!r}); {again}") from error
    for name in FILES:
        found = hashlib.sha256(contents[name]).hexdigest()
        if found != expected[name]:
            raise GuardLoadError(
                f"guard file {folder / name} ({len(contents[name]):,} bytes) has sha256 {found[:16]}…, "
                f"expected {expected[name][:16]}…: it was changed or cut short; {again}"
            )
    return contents


def available_cpus() -> int:
    """CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_threads() -> int:
    """CPUs this process may use, at most 4: more do not help one short text."""
    return min(available_cpus(), 4)


@functools.cache
def sums_bytes_exactly() -> bool:
    """Whether the CPU adds products of bytes in 32 bits (VNNI, any ARM); other x86 saturate at 16 bits.

    True only where it is known: on Linux, which tells.
    """
    if platform.machine().lower() not in ("x86_64", "amd64", "i686", "x86"):
        return True
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return "avx512_vnni" in flags or "avx_vnni" in flags


def make_session(model: bytes | Path, threads: int | None = None) -> onnxruntime.InferenceSession:
    """An ONNX session on the CPU: ``threads`` intra-op threads (None: :func:`default_threads`), one inter-op thread.

    Raises:
        ValueError: ``threads`` is no whole number from 1 on.
    """
    threads = default_threads() if threads is None else threads
    if not isinstance(threads, numbers.Integral) or threads < 1:
        raise ValueError(f"threads is {threads!r}; expected a whole number, at least 1")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Idle threads of the front graph must not spin while the deep graph wants the cores, nor after the verdict.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if not sums_bytes_exactly():
        options.add_session_config_entry("session.x64quantprecision", "1")  # exact and about half as fast
    source = model if isinstance(model, bytes) else str(model)
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


class GuardModel:
    """Front and deep graph. Any number of threads may share it; as many run a graph at once as there are CPUs.

    Each run at once has activations of its own. A process that was forked while a thread was inside may wait for it
    for ever: load a guard in each process.
    """

    def __init__(self, front: bytes | Path, deep: bytes | Path, threads: int | None = None) -> None:
        self._front = make_session(front, threads)
        self._deep = make_session(deep, threads)
        self._has_ngrams = any(output.name == "ngram_logits" for output in self._front.get_outputs())
        self._turns = threading.BoundedSemaphore(available_cpus())

    def front(self, batch: Batch) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """hidden [B, L, D], fast logits [B, K], routing logits [B]; n-gram logits [B, K], zeros in older guards."""
        arrays = {"input_ids": batch.input_ids, "char_ids": batch.char_ids, "attention_mask": batch.attention_mask}
        names = ["hidden", "fast_logits", "router_logit"] + ["ngram_logits"] * self._has_ngrams
        with self._turns:
            outputs = self._front.run(names, arrays)
        return tuple(outputs) if self._has_ngrams else (*outputs, np.zeros_like(outputs[1]))

    def deep(self, hidden: np.ndarray, attention_mask: np.ndarray) -> np.ndarray:
        """Logits [B, K] for stem states [B, L, D], without those of n-grams."""
        with self._turns:
            return self._deep.run(["logits"], {"hidden": hidden, "attention_mask": attention_mask})[0]


def run_windows(
    model: GuardModel,
    reader: Reader,
    texts: Sequence[str],
    router_threshold: float = -np.inf,
    tokens_per_batch: int = TOKENS_PER_BATCH,
) -> WindowScores:
    """Outputs of every window of ``texts``; equal ones are read once.

    The deep graph runs only where the routing logit reaches the threshold: -inf runs it for all, and the deep logits of
    other windows are zeros. Memory is bounded by ``tokens_per_batch``.
    """
    started = time.perf_counter()
    windows = reader.windows(texts)
    read, places = distinct_windows(windows)
    fast = np.zeros((len(read), NUM_CLASSES), np.float32)
    deep = np.zeros_like(fast)
    router = np.zeros(len(read), np.float32)
    for rows in batches_by_length([len(window) for window in read], tokens_per_batch):
        batch = reader.collate([read[row] for row in rows])
        hidden, fast[rows], router[rows], ngrams = model.front(batch)
        sent = router[rows] >= router_threshold
        if sent.all():  # the common case of one text: no copy
            deep[rows] = model.deep(hidden, batch.attention_mask) + ngrams
        elif sent.any():
            deep[rows[sent]] = model.deep(hidden[sent], batch.attention_mask[sent]) + ngrams[sent]
    seconds = time.perf_counter() - started
    return WindowScores(windows, fast[places], deep[places], router[places], len(texts), seconds)
