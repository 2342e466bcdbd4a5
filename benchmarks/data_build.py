"""Time and peak memory of stage 01's dataset at three sizes, each in a process of its own.

    python benchmarks/data_build.py --data PATH

Sizes are a quarter, half and the whole of the ``paper`` profile, checked against every benchmark row (benchmarks are
built before the clock starts). A cost linear in rows shows as a constant column. Memory is the main process's; those
that decode are small.
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
from record import keep

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
    parser.add_argument("--keep", action="store_true", help="write the figures to benchmarks/results and the README")
    options = parser.parse_args()
    if options.share is not None:
        print(json.dumps(measure(options.share, options.data)))
        return
    data, rows = ["--data", str(options.data)] if options.data else [], []
    for share in SHARES:
        command = [sys.executable, __file__, "--share", str(share), *data]
        row = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])
        row["microseconds_per_row"] = row["seconds"] / row["rows"] * 1e6
        rows.append(row)
        print(pd.DataFrame(rows).round(1).to_string(index=False), flush=True)
    if options.keep:
        kept = pd.DataFrame(rows).round({"seconds": 0, "gb": 1, "microseconds_per_row": 0}).astype({"seconds": int})
        keep("data_build", kept.astype({"microseconds_per_row": int}))


if __name__ == "__main__":
    main()
