"""The README's numbers, from the artifacts of a finished run: ``python -m guardlib.report.readme``.

Everything between the two markers of the run's profile is replaced, and the full results with the files behind them
are written beside the run's figures; a run of the default profile fills the minutes in the table of notebooks, too.
``--appendix`` does it for notebook 09. Nothing else is touched.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from guardlib.config import PROFILES
from guardlib.paths import APPENDIX, STAGES, project_root, stage_folder
from guardlib.report import appendix
from guardlib.report.provenance import read_manifest
from guardlib.report.results import Run, in_full, in_short, results_folder

START, END = "<!-- results of {}: start -->", "<!-- results of {}: end -->"  # profile, or another block
_APPENDIX = "distillation"  # what its markers are called
_DEFAULT = "laptop"  # the run whose minutes the table of notebooks has
_NOTEBOOK = re.compile(r"^(\| \[(\d\d_\w+)\]\([^)]*\) \|[^|]*\|)[^|]*\|", re.MULTILINE)  # …, purpose, minutes
#: Files of a run that tables are read from as they are: rates with n and interval, what each precision costs, time.
TRACES = (
    ("04_router_analysis", "paired.csv"),
    ("05_benchmarks", "benchmark_summary.csv"),
    ("06_quantize_onnx", "gate.csv"),
    ("06_quantize_onnx", "precisions.csv"),
    ("06_quantize_onnx", "sizes.csv"),
    ("07_cpu_latency", "throughput_by_workers.csv"),
    ("07_cpu_latency", "cost_by_length.csv"),
)


def keep_traces(
    folder: Path, profile: str, traced: Sequence[tuple[str, str]] = TRACES, root: Path | None = None
) -> None:
    """Copy :data:`TRACES` (or other files of stages) of a finished run into ``folder``: the rows that ran.

    Why others did not is about the machine (its folders, its network), and not for the repository.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for stage, name in traced:
        rows = pd.read_csv(stage_folder(profile, stage, root) / name, dtype=str, keep_default_na=False)
        if "state" in rows:
            rows = rows[rows["state"] == "ran"]
        rows.to_csv(folder / name, index=False)


def update(readme: Path, block: str, section: str, minutes: dict[str, float] | None = None) -> None:
    """Replace what stands between the markers of ``block``, and each notebook's ``minutes``, where given.

    Args:
        block: a profile, or what else has markers in the README.
        minutes: by stage; those of others stay.

    Raises:
        ValueError: the README has no such markers.
    """
    text = readme.read_text(encoding="utf-8")
    start, end = START.format(block), END.format(block)
    if text.count(start) != 1 or text.count(end) != 1:
        raise ValueError(f"{readme} must hold {start} and {end} once each")
    before, rest = text.split(start)
    text = f"{before}{start}\n\n{section}\n{end}{rest.split(end)[1]}"
    known = {stage: f"{value:.1f}" for stage, value in (minutes or {}).items()}
    text = _NOTEBOOK.sub(lambda row: f"{row[1]} {known[row[2]]} |" if row[2] in known else row[0], text)
    readme.write_text(text, encoding="utf-8")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="write the results of a finished run into README.md")
    parser.add_argument("--profile", choices=list(PROFILES), default=_DEFAULT, help=f"default: {_DEFAULT}")
    parser.add_argument("--appendix", action="store_true", help="what notebook 09 found, instead of the other eight")
    options = parser.parse_args(arguments)
    profile, readme = options.profile, project_root() / "README.md"
    stages = APPENDIX if options.appendix else STAGES
    try:
        if options.appendix:
            block, section = _APPENDIX, appendix.appendix_section(profile)
            keep_traces(appendix.appendix_folder(profile), profile, [(APPENDIX[0], name) for name in appendix.FILES])
        else:
            run = Run.read(profile)
            block, section = profile, in_short(run)
            keep_traces(results_folder(profile), profile)
            for name, table in run.derived().items():
                table.to_csv(results_folder(profile) / name, index=False)
            (results_folder(profile) / "README.md").write_text(in_full(run), encoding="utf-8")
        minutes = {stage: read_manifest(stage_folder(profile, stage)).seconds / 60 for stage in stages}
        update(readme, block, section, minutes if profile == _DEFAULT else None)
    except (FileNotFoundError, ValueError) as error:
        print(json.dumps(str(error))[1:-1], file=sys.stderr)
        return 1
    print("README.md updated")
    return 0


if __name__ == "__main__":
    sys.exit(main())
