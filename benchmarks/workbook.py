"""Time and memory of a finished workbook run, stage by stage, against the budget of its profile.

    python run_all.py --profile laptop && python benchmarks/workbook.py --profile laptop

Reads the manifests; runs nothing. Exit code 1 where a budget is exceeded.
"""

from __future__ import annotations

import argparse
import sys

import pandas as pd

from guardlib.config import PROFILES
from guardlib.paths import STAGES, stage_folder
from guardlib.report.provenance import read_manifest

#: Minutes for the eight notebooks on 2 cores, and peak memory of any of them in GB.
BUDGETS = {"smoke": (4, 6), "laptop": (30, 6)}


def measure(profile: str) -> pd.DataFrame:
    """One row per finished stage: seconds and peak memory (GB)."""
    rows = []
    for stage in STAGES:
        manifest = read_manifest(stage_folder(profile, stage))
        if manifest:
            rows.append({"stage": stage, "seconds": manifest.seconds, "peak_gb": manifest.peak_memory / 1e9})
    return pd.DataFrame(rows, columns=["stage", "seconds", "peak_gb"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", choices=list(PROFILES), default="laptop")
    profile = parser.parse_args().profile
    table = measure(profile)
    if len(table) < len(STAGES):
        print(f"{len(table)} of {len(STAGES)} stages are finished; run: python run_all.py --profile {profile}")
        return 1
    print(table.round(1).to_string(index=False))
    minutes, memory = table["seconds"].sum() / 60, table["peak_gb"].max()
    budget_minutes, budget_memory = BUDGETS.get(profile, (float("inf"), float("inf")))
    print(f"total {minutes:.1f} min (budget {budget_minutes}), peak {memory:.1f} GB (budget {budget_memory})")
    return int(minutes > budget_minutes or memory > budget_memory)


if __name__ == "__main__":
    sys.exit(main())
