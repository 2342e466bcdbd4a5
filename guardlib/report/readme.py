"""The README's numbers, from the artifacts of a finished run: ``python -m guardlib.report.readme``.

Everything between the two markers is replaced; nothing outside them is touched.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import pandas as pd

from guardlib.config import PROFILES
from guardlib.evaluation import metrics
from guardlib.evaluation.benchmarks import paired_rows
from guardlib.paths import STAGES, project_root, stage_folder
from guardlib.report import tables
from guardlib.report.provenance import Manifest, read_manifest

START, END = "<!-- results:start -->", "<!-- results:end -->"
SYSTEMS = ("guard", "fast", "deep", "tfidf", "rules")


def results_section(profile: str, root: Path | None = None) -> str:
    """Markdown with the results of the finished run of ``profile``.

    Raises:
        FileNotFoundError: a stage has no manifest; the message names it and the command that makes one.
    """
    folders = {stage: stage_folder(profile, stage, root) for stage in STAGES}
    manifests = {stage: read_manifest(folder) for stage, folder in folders.items()}
    missing = [stage for stage, manifest in manifests.items() if manifest is None]
    if missing:
        raise FileNotFoundError(f"{missing[0]} has no manifest; run: python run_all.py --profile {profile}")
    summary = pd.read_csv(folders["05_benchmarks"] / "benchmark_summary.csv")
    scores = pd.read_parquet(folders["05_benchmarks"] / "scores.parquet")
    latency = pd.read_parquet(folders["07_cpu_latency"] / "latency.parquet")
    sizes = pd.read_csv(folders["06_quantize_onnx"] / "sizes.csv")
    default = summary[summary["threshold"] == "default"]
    systems = [name for name in SYSTEMS if name in set(default["system"])]
    matched = metrics.matched_detection(paired_rows(scores[scores["system"] == "guard"]))
    parts = [
        origin(profile, manifests),
        "**Detection and false positives** (percent, 95 % interval; threshold 0.5)",
        tables.to_markdown(tables.main_results(default, systems, accuracy=True)),
        "**The same transform on attacks and on benign text** (the routed guard, threshold 0.5)",
        tables.to_markdown(matched_table(matched)),
        f"**Latency**, raw string to verdict, one text each, INT8, on {manifests['07_cpu_latency'].machine['cpu']}",
        tables.to_markdown(tables.latency_table(latency, reference="BERT-6")),
        "**Files of the guard**",
        tables.to_markdown(size_table(sizes)),
        "**The run**",
        tables.to_markdown(stage_table(manifests)),
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def matched_table(matched: pd.DataFrame) -> pd.DataFrame:
    """Detection per transform beside the false-positive rate on benign text under it, as printed."""
    return pd.DataFrame(
        {
            "Transform": matched["variant"],
            "Benchmark": matched["benchmark"],
            "Caught": [tables.rate(r.tpr, r.tpr_low, r.tpr_high) for r in matched.itertuples()],
            "n attacks": matched["n_pos"].astype(int).astype(str),
            "Benign flagged": [tables.rate(r.fpr, r.fpr_low, r.fpr_high) for r in matched.itertuples()],
            "n benign": matched["n_neg"].astype(int).astype(str),
        }
    )


def size_table(sizes: pd.DataFrame) -> pd.DataFrame:
    """Bytes on disk per precision."""
    totals = sizes.groupby("precision", sort=False)["bytes"].sum()
    return pd.DataFrame({"Precision": totals.index, "On disk": [f"{value / 1e6:.1f} MB" for value in totals]})


def stage_table(manifests: dict[str, Manifest]) -> pd.DataFrame:
    """Minutes, peak memory and headline of each stage."""
    rows = []
    for stage, manifest in manifests.items():
        headline = manifest.headline.items()
        figures = [f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in headline]
        rows.append(
            {
                "Stage": stage,
                "Minutes": f"{manifest.seconds / 60:.1f}",
                "Peak memory": f"{manifest.peak_memory / 1e9:.1f} GB",
                "Headline": ", ".join(figures[:4]),
            }
        )
    return pd.DataFrame(rows)


def origin(profile: str, manifests: dict[str, Manifest]) -> str:
    """Where the numbers come from; where stages ran at different commits, which ran at which."""
    last = manifests["08_paper_figures"]
    machine = last.machine
    total = sum(manifest.seconds for manifest in manifests.values()) / 60
    stages: dict[str, list[str]] = {}
    for stage, manifest in manifests.items():
        stages.setdefault(manifest.commit, []).append(stage[:2])
    commits = [f"`{commit}`" + f" ({', '.join(of)})" * (len(stages) > 1) for commit, of in stages.items()]
    return (
        f"Profile `{profile}`, commit {', '.join(commits)}, seed {last.seed}, {total:.0f} minutes on "
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory'] / 2**30:.0f} GiB. Data: {last.notes}."
    )


def update(readme: Path, section: str) -> None:
    """Replace what stands between the markers. Raises ValueError where the README has no markers."""
    text = readme.read_text(encoding="utf-8")
    if text.count(START) != 1 or text.count(END) != 1:
        raise ValueError(f"{readme} must hold {START} and {END} once each")
    before, rest = text.split(START)
    after = rest.split(END)[1]
    readme.write_text(f"{before}{START}\n\n{section}\n{END}{after}", encoding="utf-8")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="write the results of a finished run into README.md")
    parser.add_argument("--profile", choices=list(PROFILES), default="laptop")
    profile = parser.parse_args(arguments).profile
    try:
        update(project_root() / "README.md", results_section(profile))
    except (FileNotFoundError, ValueError) as error:
        print(json.dumps(str(error))[1:-1], file=sys.stderr)
        return 1
    print("README.md updated")
    return 0


if __name__ == "__main__":
    sys.exit(main())
