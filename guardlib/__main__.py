"""``python -m guardlib scan`` (or ``guardlib scan``): judge a text on the command line.

``guardlib calibrate FILE``: the threshold at which so many benign texts of your own are flagged.

Exit code 0: not flagged; 1: flagged (with ``--lines``: at least one); 2: it, or one of the lines, could not be judged
(one line on standard error says why).
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from guardlib import __version__

_SCAN, _CALIBRATE = "scan", "calibrate"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = _parser()
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments and not arguments[0].startswith("-") and arguments[0] not in (_SCAN, _CALIBRATE):
        return _complain(f'{arguments[0][:40]!r} is no command; expected: python -m guardlib {_SCAN} "text"')
    options = parser.parse_args(arguments)
    if options.command is None:
        parser.print_usage(sys.stderr)
        return 2
    try:
        return int(_COMMANDS[options.command](options))
    except (ValueError, OSError) as error:
        return _complain(str(error))
    except Exception as error:  # a damaged guard, a package that is missing: 1 would say that the text is an attack
        kind = "" if type(error).__module__.startswith("guardlib") else f"{type(error).__name__}: "
        return _complain(kind + str(error))


def _scan(options: argparse.Namespace) -> bool:
    """Judge and print what was asked for; whether anything was flagged."""
    from guardlib.runtime.guard import MAX_CHARACTERS, Guard  # not for --help and --version

    with _opened(options) as stream:
        guard = Guard.load(options.guard, threads=options.threads, threshold=options.threshold, fpr=options.fpr)
        if options.lines:
            return _scan_lines(guard, stream, options)
        raw = stream.read(most := 4 * MAX_CHARACTERS + 1)  # bytes; whatever follows makes no difference
    if len(raw) == most and not options.truncate:
        raise ValueError(
            f"the text has more than {MAX_CHARACTERS:,} characters, the most that is read: split it, or --truncate"
        )
    if not raw:
        _check_pipe(options)
    text = raw.decode("utf-8", "replace") if options.text is None else options.text
    verdict = guard.scan(text, truncate=options.truncate)
    print(json.dumps(verdict.to_dict()) if options.json else _plain(verdict))  # ASCII: any terminal takes it
    return verdict.flagged


def _calibrate(options: argparse.Namespace) -> bool:
    """Print the threshold that suits the benign lines of a file. Nothing is flagged by that: False."""
    from guardlib.runtime.guard import Guard

    guard = Guard.load(options.guard, threads=options.threads)
    with _opened(options) as stream:
        texts = [line for line in _lines(stream) if line.strip()]
    threshold = guard.calibrate(texts, options.fpr)  # printed in full: rounded down it could flag one more
    print(f"{threshold!r} flags at most {options.fpr:.3g} of these {len(texts):,} texts")
    return False


_COMMANDS = {_SCAN: _scan, _CALIBRATE: _calibrate}


def _scan_lines(guard, stream: BinaryIO, options: argparse.Namespace) -> bool:
    """Judge each line of ``stream``; whether any was flagged. A line too long to be read does not stop the others.

    Raises:
        ValueError: a pipe holds no line; or, after the last line, some were not judged.
    """
    from guardlib.runtime.guard import MAX_CHARACTERS

    # Lines of a file are judged together, which is faster; those of a pipe as they come.
    together = 32 if options.file is not None else 1
    flagged, unread, number = False, 0, 0
    numbered = enumerate(_lines(stream), 1)
    while part := list(itertools.islice(numbered, together)):
        fits = [options.truncate or len(line) <= MAX_CHARACTERS for _, line in part]
        read = [line for (_, line), fit in zip(part, fits, strict=True) if fit]
        verdicts = iter(guard.scan(read, truncate=options.truncate))
        for (number, line), fit in zip(part, fits, strict=True):
            if fit:
                verdict = next(verdicts)
                row, words = verdict.to_dict(), _plain(verdict)
                flagged |= verdict.flagged
            else:
                row = {"error": f"{len(line):,} characters; expected at most {MAX_CHARACTERS:,}"}
                words = f"not judged: {row['error']}"
                unread += 1
            print(json.dumps({"line": number} | row) if options.json else f"{number}: {words}", flush=True)
    if not number:
        _check_pipe(options)
    if unread:
        raise ValueError(f"{unread:,} of {number:,} lines are too long and were not judged: split them, or --truncate")
    return flagged


def _check_pipe(options: argparse.Namespace) -> None:
    """Raise ValueError where what held no text is standard input: the command before it failed."""
    if options.text is None and options.file is None:
        raise ValueError('no text on standard input; expected some, or: python -m guardlib scan "text"')


def _lines(stream: BinaryIO) -> Iterator[str]:
    """Lines without their ends, empty ones too, so that their numbers are those of an editor."""
    return (line.removesuffix(b"\n").removesuffix(b"\r").decode("utf-8", "replace") for line in stream)


def _complain(message: str) -> int:
    print(f"guardlib: {' '.join(message.split())}", file=sys.stderr)
    return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m guardlib", description="A prompt-attack guardrail for the CPU.")
    parser.add_argument("--version", action="version", version=f"guardlib {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="command")
    scan = commands.add_parser(_SCAN, help="judge one text; exit code 1 when it is flagged, 2 when it cannot be judged")
    scan.add_argument(
        "text", nargs="?", help="the text (after -- if it begins with a dash); without it and without -f: stdin"
    )
    scan.add_argument(
        "-f", "--file", type=Path, help="read the text from a UTF-8 file (bytes that are none are replaced)"
    )
    scan.add_argument("--lines", action="store_true", help="every line is a text of its own")
    scan.add_argument("--json", action="store_true", help="print the whole verdict as JSON, on one line")
    scan.add_argument("--threshold", type=float, help="flag from this score (0 to 1) on")
    scan.add_argument(
        "--fpr",
        type=float,
        help="instead of a threshold: flags this share of benign validation texts, one the guard was calibrated for "
        "(0.001, 0.01 or 0.05)",
    )
    scan.add_argument("--truncate", action="store_true", help="cut a text that is too long instead of refusing it")
    own = commands.add_parser(_CALIBRATE, help="the threshold at which so many benign texts of your own are flagged")
    own.add_argument("file", type=Path, help="UTF-8 file of them, one a line")
    own.add_argument("--fpr", type=float, default=0.01, help="the share that may be flagged (default: 0.01)")
    own.set_defaults(text=None)
    for command in (scan, own):
        command.add_argument("--guard", type=Path, help="guard folder; default: the release inside the package")
        command.add_argument("--threads", type=int, help="CPU threads")
    return parser


def _opened(options: argparse.Namespace) -> contextlib.AbstractContextManager[BinaryIO]:
    """The bytes to judge. Raises ValueError when they are given twice, or their file cannot be read."""
    if options.text is not None and options.file is not None:
        raise ValueError(f"got both a text and the file {options.file}; expected one of them")
    if options.text is not None:
        return io.BytesIO(options.text.encode("utf-8", "surrogatepass"))
    if options.file is None:
        return contextlib.nullcontext(sys.stdin.buffer)
    try:
        return options.file.open("rb")
    except OSError as error:
        raise ValueError(
            f"{options.file} cannot be read ({error.strerror}); expected a file of text: python -m guardlib "
            f"{options.command} {'-f ' if options.command == _SCAN else ''}FILE"
        ) from None


def _plain(verdict) -> str:
    """A verdict in a few lines."""
    word = "FLAGGED" if verdict.flagged else "ok"
    lines = [
        f"{word}: {verdict.label.name.lower().replace('_', ' ')} "
        f"(attack score {verdict.score:.3f}, {verdict.route} branch, code {verdict.code16:#06x})"
    ]
    if verdict.view != "raw":
        lines.append(f"read as: {verdict.view}")
    if verdict.flagged:
        excerpt = ascii(verdict.excerpt) if not verdict.excerpt.isprintable() else repr(verdict.excerpt)
        of = "" if verdict.view == "raw" else " of what it was read as"
        lines.append(f"characters {verdict.span[0]}–{verdict.span[1]}{of}: {excerpt}")
    encoding = sys.stdout.encoding or "utf-8"
    return "\n".join(lines).encode(encoding, "replace").decode(encoding)


if __name__ == "__main__":
    sys.exit(main())
