"""``python -m guardlib.data list | verify | build``: what each source is, whether a dataset leaks, a dataset itself.

Exit code 0: done; 1: ``verify`` found a leak; 2: it could not be done (one line on standard error says why).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from guardlib.config import PROFILES, ConfigError, Profile
from guardlib.console import table_lines
from guardlib.data import card
from guardlib.data.build import PROTECTED_FILE, LeakError, build_dataset
from guardlib.data.corpus import corpus_frames, corpus_status
from guardlib.data.leakage import LeakFinder
from guardlib.data.records import SourceError
from guardlib.data.sources import load_available
from guardlib.data.splits import SPLITS, identity
from guardlib.evaluation.benchmarks import BenchmarkError, build_benchmarks, write_status
from guardlib.evaluation.suites.supplied import supplied_status
from guardlib.labels import RECORD_COLUMNS
from guardlib.paths import stage_folder
from guardlib.settings import get_profile

BENCHMARK_FILE = "benchmarks.parquet"
_SHOWN_LEAKS = 10


class VerifyError(ValueError):
    """A folder that is no finished dataset."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    options = _parser().parse_args(arguments)
    try:
        return {"list": list_sources, "verify": verify, "build": build}[options.command](options)
    except (SourceError, ConfigError, VerifyError, LeakError, BenchmarkError, OSError) as error:
        print(f"guardlib.data: {error}", file=sys.stderr)
        return 2


def list_sources(options: argparse.Namespace) -> int:
    """Every source: kind, rows, licence, where it was found, or why it could not be had."""
    _, status = load_available(options.data, licences=options.licences or "all", progress=sys.stderr.isatty())
    corpus = {f"corpus_{part}": len(frame) for part, frame in corpus_frames(held_out=False).items()}
    status += corpus_status(corpus) + supplied_status(options.data)
    table = pd.DataFrame(status)
    if options.json:
        print(table.to_json(orient="records", indent=1))
        return 0
    _print_table(card.sources(status))
    used = table[table["used"]]
    print(f"\n{len(used)} of {len(table)} sources, {used['rows'].sum():,} rows")
    return 0


def verify(options: argparse.Namespace) -> int:
    """Repeat the leakage check of a build, on the same rows at the same threshold, and print what it had removed."""
    folder = options.folder or stage_folder(options.profile, "01_data")
    splits, protected, report = _read_dataset(folder, options.profile)
    removed = pd.DataFrame(report["removed_by_source"])
    rows = pd.concat(splits, ignore_index=True)
    print(f"{folder}: {len(rows):,} rows against {len(protected):,} benchmark rows, similarity {report['threshold']:g}")
    if len(removed):
        print("\nrows that the build removed, by source and benchmark (exact, near, decoded and contained copies):\n")
        _print_table(card.overlap(removed.to_dict("records")).astype(int).reset_index())
    leaks = LeakFinder(protected, report["threshold"], sys.stderr.isatty()).find(rows)
    straddling = rows[rows.groupby("group")["split"].transform("nunique") > 1]
    groups = straddling["group"].nunique()
    key = identity(rows)
    twice = rows[rows["split"].groupby(key).transform("nunique") > 1]  # whatever its groups say
    if leaks.empty and straddling.empty and twice.empty:
        print("\nno benchmark row is left, and no text and no group is in two splits")
        return 0
    again = f"python run_all.py --profile {options.profile} --only 01 --force"
    if options.folder:
        again = f"python -m guardlib.data build --profile {options.profile} --out {options.folder}"
    found = f"{len(leaks)} rows leak, {groups} groups and {key[twice.index].nunique()} texts are in two splits"
    print(f"\n{found}; build it again: {again}\n")
    first = leaks.head(_SHOWN_LEAKS)
    if len(first):
        _print_table(first.assign(text=rows["text"].iloc[first["row"]].str.slice(0, 60).map(ascii).to_numpy()))
    if len(straddling := pd.concat([straddling, twice.loc[twice.index.difference(straddling.index)]])):
        shown = straddling.sort_values(["group", "text"]).head(_SHOWN_LEAKS)[["group", "split", "source", "text"]]
        _print_table(shown.assign(text=shown["text"].str.slice(0, 60).map(ascii)))
    return 1


def build(options: argparse.Namespace) -> int:
    """Benchmarks and all splits into a folder, as notebook 01 builds them."""
    profile = _profile(options)
    benchmarks, status = build_benchmarks(profile, options.data)
    dataset = build_dataset(profile, options.data, benchmarks)
    paths = dataset.write(options.out)
    benchmarks.to_parquet(options.out / BENCHMARK_FILE)
    paths += [options.out / BENCHMARK_FILE, write_status(status, options.out)]
    for path in paths:
        print(f"{path}  {path.stat().st_size:,} bytes")
    return 0


def _profile(options: argparse.Namespace) -> Profile:
    return get_profile(options.profile, {"data.licences": options.licences} if options.licences else None)


def _read_dataset(folder: Path, profile: str) -> tuple[list[pd.DataFrame], pd.DataFrame, dict]:
    """The splits, what its build kept out of them and its report; VerifyError where one of them cannot be read."""
    try:
        splits = [pd.read_parquet(folder / f"{split}.parquet")[list(RECORD_COLUMNS)] for split in SPLITS]
        protected = pd.read_parquet(folder / PROTECTED_FILE)[["benchmark", "example_id", "text"]]
        report = json.loads((folder / "leakage.json").read_text(encoding="utf-8"))
        return splits, protected, {key: report[key] for key in ("threshold", "removed_by_source")}
    except (OSError, ValueError, KeyError) as error:
        raise VerifyError(
            f"{folder} is no finished dataset ({error}); make one with: python run_all.py --profile {profile} "
            "--only 01, or python -m guardlib.data build --out FOLDER and verify --folder FOLDER"
        ) from error


def _print_table(frame: pd.DataFrame) -> None:
    print("\n".join(table_lines([tuple(frame.columns), *frame.itertuples(index=False)])))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m guardlib.data", description="The data of the workbook.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="list | verify | build")
    listing = commands.add_parser("list", help="what each source is, its licence, and whether it can be had now")
    checking = commands.add_parser(
        "verify", help="look for benchmark rows in a finished dataset; exit code 1 on a leak"
    )
    building = commands.add_parser("build", help="build benchmarks and splits into a folder")
    for command in (listing, building):
        command.add_argument(
            "--data", type=lambda text: Path(text).expanduser(), metavar="PATH",
            default=os.environ.get("GUARDLIB_DATA") or None,
            help="folder of a data mirror (default: $GUARDLIB_DATA)",
        )  # fmt: skip
        command.add_argument("--licences", choices=("all", "permissive"), help="leave sets under other terms out")
    listing.add_argument("--json", action="store_true", help="print everything known of each source as JSON")
    for command in (checking, building):
        command.add_argument("--profile", choices=list(PROFILES), default="laptop")
    checking.add_argument("--folder", type=Path, help="the dataset (default: that of the profile's last run)")
    building.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="where to write")
    return parser


if __name__ == "__main__":
    sys.exit(main())
