"""``python -m guardlib scan``: judge a text on the command line.

Exit code 0: not flagged; 1: flagged; 2: it could not be judged (one line on standard error says why).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from guardlib import __version__


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.command is None:
        parser.print_usage(sys.stderr)
        return 2
    from guardlib.runtime.guard import Guard, GuardLoadError

    try:
        text = _read(options)
        guard = Guard.load(options.guard, threads=options.threads, threshold=options.threshold, fpr=options.fpr)
        verdict = guard.scan(text, truncate=options.truncate)
    except (GuardLoadError, ValueError, OSError) as error:
        print(f"guardlib: {error}", file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps(verdict.to_dict()))  # ASCII, so that any terminal takes it
    else:
        print(_plain(verdict))
    return int(verdict.flagged)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m guardlib", description="A prompt-attack guardrail for the CPU.")
    parser.add_argument("--version", action="version", version=f"guardlib {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="command")
    scan = commands.add_parser(
        "scan", help="judge one text; exit code 1 when it is flagged, 2 when it cannot be judged"
    )
    scan.add_argument("text", nargs="?", help="the text; without it and without -f, standard input is read")
    scan.add_argument(
        "-f", "--file", type=Path, help="read the text from a UTF-8 file (bytes that are none are replaced)"
    )
    scan.add_argument("--guard", type=Path, help="guard folder; default: the release inside the package")
    scan.add_argument("--json", action="store_true", help="print the whole verdict as JSON")
    scan.add_argument("--threshold", type=float, help="flag from this score (0 to 1) on")
    scan.add_argument("--fpr", type=float, help="operating point instead of a threshold: share of benign texts flagged")
    scan.add_argument("--threads", type=int, help="CPU threads")
    scan.add_argument("--truncate", action="store_true", help="cut a text that is too long instead of refusing it")
    return parser


def _read(options: argparse.Namespace) -> str:
    """The text to judge. Raises ValueError when it is given twice, or its file cannot be read."""
    if options.text is not None and options.file is not None:
        raise ValueError(f"got both a text and the file {options.file}; expected one of them")
    if options.text is not None:
        return options.text
    try:
        raw = options.file.read_bytes() if options.file is not None else sys.stdin.buffer.read()
    except OSError as error:
        raise ValueError(
            f"{options.file or 'standard input'} cannot be read ({error.strerror}); expected one that holds the text: "
            "python -m guardlib scan -f FILE"
        ) from None
    return raw.decode("utf-8", "replace")


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
        lines.append(f"characters {verdict.span[0]}–{verdict.span[1]}: {excerpt}")
    encoding = sys.stdout.encoding or "utf-8"
    return "\n".join(lines).encode(encoding, "replace").decode(encoding)


if __name__ == "__main__":
    sys.exit(main())
