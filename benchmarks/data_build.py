"""Time and peak memory of stage 01's dataset at three sizes, each in a process of its own.

    python benchmarks/data_build.py --data PATH

Sizes are a quarter, half and the whole of the ``paper`` profile,
checked against every benchmark row (benchmarks are built before the clock starts). Prints a markdown table; a cost
linear in rows shows as a constant column. Memory is the main process's; those that decode are small.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd

from guardlib.data.build import build_dataset
from guardlib.data.hard_negatives import SOURCE as HARD_NEGATIVES
from guardlib.evaluation.benchmarks import build_benchmarks
from guardlib.settings import get_profile

SHARES = (0.25, 0.5, 1.0)
_SCALED = ("max_rows_per_source", "generated_per_attack", "hard_negatives")


def measure(share: float, mirror: Path | None) -> dict:
    """Rows, seconds and peak memory (GB) of one build in this process."""
    paper = get_profile("paper")
    settings = {f"data.{name}": round(getattr(paper.data, name) * share) for name in _SCALED}
    benchmarks, _ = build_benchmarks(get_profile("paper"), mirror)
    started = time.perf_counter()
    built = build_dataset(get_profile("paper", settings), mirror, benchmarks, progress=False)
    seconds = time.perf_counter() - started
    sources = pd.concat([built.train, built.validation, built.test])["source"]
    gigabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    made = int((sources == HARD_NEGATIVES).sum())
    return {"rows": len(sources), "hard_negatives": made, "seconds": seconds, "gb": gigabytes}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("GUARDLIB_DATA") or None, metavar="PATH")
    parser.add_argument("--share", type=float, help="measure this share of the paper profile alone, print JSON")
    options = parser.parse_args()
    if options.share is not None:
        print(json.dumps(measure(options.share, options.data)))
        return
    print("| Rows | of them made hard negatives | Seconds | Peak memory | Microseconds per row |")
    print("|---:|---:|---:|---:|---:|")
    data = ["--data", str(options.data)] if options.data else []
    for share in SHARES:
        command = [sys.executable, __file__, "--share", str(share), *data]
        row = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])
        cost = row["seconds"] / row["rows"] * 1e6
        made = f"{row['hard_negatives']:,}"
        print(f"| {row['rows']:,} | {made} | {row['seconds']:.0f} | {row['gb']:.1f} GB | {cost:.0f} |", flush=True)


if __name__ == "__main__":
    main()
