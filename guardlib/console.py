"""A run's log on a terminal or in a file: lines with elapsed time, and progress bars that do not garble them."""

from __future__ import annotations

import re
import shutil
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

BAR_SECONDS = 20.0  # where a bar cannot be redrawn in place, it is shown this often
SILENCE_SECONDS = 60.0  # a running notebook that says nothing is reported this often
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def duration(seconds: float) -> str:
    """Minutes and seconds, with hours where there are any.

    >>> duration(75), duration(3675)
    ('01:15', '1:01:15')
    """
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes:02}:{rest:02}"


class Console:
    """Writes whole lines to ``stream``; one unfinished line (a progress bar) may stand at the bottom of a terminal."""

    def __init__(self, stream=None) -> None:
        self._stream = stream or sys.stdout
        self._terminal = bool(getattr(self._stream, "isatty", lambda: False)())
        self._lock = threading.RLock()
        self._bar_shown = False
        self._last_bar = 0.0
        self._spoke = self._started = time.monotonic()

    @property
    def elapsed(self) -> str:
        """Time since the notebook in :meth:`notebook` began."""
        return duration(time.monotonic() - self._started)

    def line(self, text: str = "") -> None:
        """A line of the run itself."""
        with self._lock:
            self._write(("\r\x1b[2K" if self._bar_shown else "") + text + "\n")
            self._bar_shown = False

    def log(self, text: str) -> None:
        """A line that a notebook printed."""
        self.line(f"  {self.elapsed} │ {text}")

    def bar(self, text: str, *, last: bool = False) -> None:
        """The present state of a progress bar: redrawn in place on a terminal, else shown at times and when last."""
        with self._lock:
            if last:
                self.log(text)
            elif self._terminal:
                width = shutil.get_terminal_size().columns - 1
                self._write(f"\r\x1b[2K{f'  {self.elapsed} │ {text}'[:width]}")
                self._bar_shown = True
            elif time.monotonic() - self._last_bar >= BAR_SECONDS:
                self._last_bar = time.monotonic()
                self.log(text)

    @contextmanager
    def notebook(self) -> Iterator[None]:
        """Start the clock of one notebook, and show now and then that it is alive."""
        self._started = self._spoke = self._last_bar = time.monotonic()
        finished = threading.Event()
        watcher = threading.Thread(target=self._watch, args=(finished,), daemon=True)
        watcher.start()
        try:
            yield
        finally:
            finished.set()
            watcher.join()

    def _watch(self, finished: threading.Event) -> None:
        while not finished.wait(1.0):
            if time.monotonic() - self._spoke >= SILENCE_SECONDS:
                self.log("still running")

    def _write(self, text: str) -> None:
        self._spoke = time.monotonic()
        self._stream.write(text)
        self._stream.flush()


class LogStream:
    """A file that a notebook's stdout or stderr is copied to, in pieces of any length; see :class:`Console`."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._pending = ""
        self._in_bar = False

    def write(self, text: str) -> int:
        """Pass on whole lines, and the newest state of a bar (text after a carriage return)."""
        for piece in re.split(r"(\r\n|\n|\r)", text):
            if piece in ("\n", "\r\n"):
                self._end_line()
            elif piece == "\r":
                self._pending, self._in_bar = "", True
            else:
                self._pending += piece
        if self._in_bar and self._pending.strip():
            self._console.bar(self._clean())
        return len(text)

    def flush(self) -> None:
        """Nothing to do: what is whole has been written."""

    def close(self) -> None:
        """Pass on what was left without an end of line."""
        if self._pending.strip():
            self._end_line()

    def _end_line(self) -> None:
        text = self._clean()
        if text.strip():
            (self._console.bar(text, last=True) if self._in_bar else self._console.log(text))
        self._pending, self._in_bar = "", False

    def _clean(self) -> str:
        return _CONTROL.sub("", self._pending).rstrip()


def table_lines(rows: Sequence[Sequence[object]]) -> list[str]:
    """Rows as lines, columns as wide as their longest entry; nothing is cut. The last column is as long as it is."""
    texts = [[str(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    return ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in texts]
