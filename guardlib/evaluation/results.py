"""What stage 05 leaves for later stages and for people: one summary table and one JSON file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from guardlib.evaluation.systems import Board


def write_results(
    folder: Path,
    summary: pd.DataFrame,
    at_fpr: pd.DataFrame,
    tables: Mapping[str, pd.DataFrame],
    thresholds: dict[str, float],
    status: pd.DataFrame,
    board: Board,
) -> list[Path]:
    """Write ``benchmark_summary.csv`` and ``benchmark_results.json``; their paths.

    The summary has a row per benchmark, system and threshold (``default`` or ``target_fpr``), and one per benchmark or
    system that did not run, with the reason in ``why_not`` and ``state`` "failed" or "not run". The JSON has all of it,
    every frame of ``tables`` by name, thresholds, and the status of benchmarks and systems.
    """
    measured = pd.concat([summary.assign(threshold="default"), at_fpr.assign(threshold="target_fpr")])
    table = pd.concat([measured.assign(state="ran", why_not=""), _not_run(status, board)], ignore_index=True)
    table.to_csv(folder / "benchmark_summary.csv", index=False)
    parts = {"summary": table, **tables, "benchmarks": status}
    results = {name: json.loads(part.to_json(orient="records", double_precision=15)) for name, part in parts.items()}
    results |= {"thresholds": thresholds, "failed_systems": board.failed, "absent_systems": board.absent}
    path = folder / "benchmark_results.json"
    path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return [folder / "benchmark_summary.csv", path]


def _not_run(status: pd.DataFrame, board: Board) -> pd.DataFrame:
    """A row per benchmark and per system without scores: benchmark or system, state, why_not."""
    missing = status[~status["ran"].astype(bool)]
    state = missing["failed"].astype(bool).map({True: "failed", False: "not run"})
    rows = [missing[["benchmark", "why_not"]].assign(state=state)]
    for state, systems in (("failed", board.failed), ("not run", board.absent)):
        rows.append(pd.DataFrame({"system": list(systems), "why_not": list(systems.values()), "state": state}))
    return pd.concat(rows, ignore_index=True)


def headline_figures(summary: pd.DataFrame, system: str = "guard") -> dict[str, float]:
    """One number per benchmark for the manifest: accuracy where it holds benign rows, else detection rate."""
    rows = summary[summary["system"] == system]
    figures = {}
    for row in rows.itertuples():
        name, value = ("tpr", row.tpr) if row.n_neg == 0 else ("accuracy", row.accuracy)
        figures[f"{row.benchmark}_{name}"] = round(float(value), 4)
    return figures
