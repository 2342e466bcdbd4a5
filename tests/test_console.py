"""The run's log: whole lines, bars that do not garble them, whatever pieces a kernel sends."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardlib.console import Console, LogStream, duration


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("seconds", "text"), [(0, "00:00"), (75.9, "01:15"), (3675, "1:01:15")])
def test_duration(seconds, text):
    assert duration(seconds) == text


@given(st.lists(st.text("ab\n"), max_size=20))
def test_lines_survive_any_cutting(pieces):
    """The log is that of the text as a whole."""
    out = io.StringIO()
    stream = LogStream(Console(out))
    for piece in pieces:
        stream.write(piece)
    stream.close()
    logged = [line.split("│ ", 1)[1] for line in out.getvalue().splitlines()]
    assert logged == [line for line in "".join(pieces).split("\n") if line.strip()]


def test_bar_in_a_file_is_shown_once():
    """Without a terminal only the last state is written, control codes removed."""
    out = io.StringIO()
    stream = LogStream(Console(out))
    with_console = Console(out)
    stream = LogStream(with_console)
    with with_console.notebook():
        for percent in range(100):
            stream.write(f"\rtrain: {percent}%\x1b[A")
        stream.write("\rtrain: 100%\n")
        stream.write("after\n")
    lines = [line.split("│ ", 1)[1] for line in out.getvalue().splitlines()]
    assert lines == ["train: 100%", "after"]


def test_bar_on_a_terminal_is_redrawn_and_cleared():
    """A line printed over a bar erases it first."""
    out = Terminal()
    console = Console(out)
    LogStream(console).write("\rtrain: 1%")
    LogStream(console).write("a line\n")
    assert out.getvalue().count("\n") == 1
    assert out.getvalue().startswith("\r\x1b[2K")
    assert "train: 1%\r\x1b[2K  00:00 │ a line\n" in out.getvalue()
