"""One run per folder: a lock that the operating system releases by itself when its holder dies."""

from __future__ import annotations

import os
import time
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None
    import msvcrt


class Locked(RuntimeError):
    """Another process holds the lock; the message says which."""


class FolderLock:
    """Context manager over ``<folder>/.lock``.

    Raises:
        Locked: on entering, when another run holds it.
        OSError: the folder cannot be made or written.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / ".lock"

    def __enter__(self) -> FolderLock:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # never truncated before it is held: the text inside belongs to the holder
        self._file = os.fdopen(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644), "r+", encoding="utf-8")
        try:
            _acquire(self._file)
        except OSError:
            holder = self._file.read(200).strip() or "another process"
            self._file.close()
            raise Locked(
                f"{self.path.parent} is in use by {holder}; wait for it, stop it, or run in another GUARDLIB_HOME"
            ) from None
        self._file.seek(0)
        self._file.truncate()
        self._file.write(f"process {os.getpid()}, started {time.strftime('%Y-%m-%d %H:%M:%S')}\n")
        self._file.flush()
        return self

    def __exit__(self, *_) -> None:
        self._file.close()  # closing releases; the file stays, since removing it would let two runs hold two files


def _acquire(file) -> None:
    """Lock without waiting; OSError where it is taken."""
    if fcntl is not None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return
    file.seek(1 << 20)  # a byte far behind the text, so that others can still read who holds it
    msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    file.seek(0)
