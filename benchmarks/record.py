"""Keeps what a benchmark measured: a CSV file with commit and machine, and its table in the README."""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

from guardlib.report import tables
from guardlib.report.provenance import describe_machine, git_commit
from guardlib.report.readme import update

RESULTS = Path(__file__).with_name("results")
README = Path(__file__).parents[1] / "README.md"
#: Every benchmark that is kept, in the README's order, and what its table shows.
TITLES = {
    "training_throughput": "Training, tokens per second, beside a plain BERT of as many layers on the same batches; "
    "ratio: the first row's over the second's",
    "ablation": "What a setting is worth on sources that training never saw, one short training each (fractions)",
    "soak": "Many threads on one guard: verdicts unlike the serial ones, and resident memory (MB) after a tenth of the "
    "run and at its highest later",
    "data_build": "The dataset at a quarter, half and all of the settings of `paper`, checked against all benchmark "
    "rows",
}


def keep(name: str, table: pd.DataFrame) -> None:
    """Write ``table`` to ``results/<name>.csv`` and bring the README's block of benchmarks up to date."""
    machine = describe_machine()
    named = ", ".join(filter(None, (machine["cpu"], f"{machine['cores']} cores", machine["cuda"])))
    origin = {"commit": git_commit(), "machine": named, "command": command()}
    RESULTS.mkdir(exist_ok=True)
    table.assign(**origin).to_csv(RESULTS / f"{name}.csv", index=False)
    update(README, "benchmarks", section())


def command() -> str:
    """How this program was called; folders of this machine, after ``--data`` and ``--guard``, as PATH."""
    words = [word for word in sys.argv[1:] if word != "--keep"]
    shown = [
        "PATH" if before in ("--data", "--guard") else word for before, word in zip(["", *words], words, strict=False)
    ]
    return " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *shown])


def section() -> str:
    """Markdown with the table of each benchmark that was kept."""
    parts = []
    for name, title in TITLES.items():
        path = RESULTS / f"{name}.csv"
        if path.is_file():
            table = pd.read_csv(path)
            first = table.iloc[0]
            parts.append(f"{title} (commit `{first['commit']}`, {first['machine']}; `{first['command']}`):")
            shown = table.drop(columns=["commit", "machine", "command"])
            parts.append(tables.to_markdown(shown.rename(columns=lambda column: column.replace("_", " "))).strip())
    return "\n\n".join(parts) + "\n"
