"""What stage 05 leaves for later stages and for people: one summary table and one JSON file."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd


def write_results(
    folder: Path,
    summary: pd.DataFrame,
    at_fpr: pd.DataFrame,
    variants: pd.DataFrame,
    ranked: pd.DataFrame,
    thresholds: dict[str, float],
) -> list[Path]:
    """Write ``benchmark_summary.csv`` and ``benchmark_results.json``; their paths.

    The summary has a row per benchmark, system and threshold (``default`` or ``target_fpr``); the JSON has everything.
    """
    table = pd.concat([summary.assign(threshold="default"), at_fpr.assign(threshold="target_fpr")], ignore_index=True)
    table.to_csv(folder / "benchmark_summary.csv", index=False)
    parts = {"summary": table, "variants": variants, "ranking": ranked}
    results = {name: json.loads(part.to_json(orient="records")) for name, part in parts.items()}
    results["thresholds"] = thresholds
    path = folder / "benchmark_results.json"
    path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return [folder / "benchmark_summary.csv", path]


def headline_figures(summary: pd.DataFrame, system: str = "guard") -> dict[str, float]:
    """One number per benchmark for the manifest: accuracy where it holds benign rows, else detection rate."""
    rows = summary[summary["system"] == system]
    figures = {}
    for row in rows.itertuples():
        name, value = ("tpr", row.tpr) if row.n_neg == 0 else ("accuracy", row.accuracy)
        figures[f"{row.benchmark}_{name}"] = round(float(value), 4)
    return figures
