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
from guardlib.evaluation.timings import ALL_LENGTHS, percentiles
from guardlib.paths import STAGES, project_root, stage_folder
from guardlib.report import tables
from guardlib.report.provenance import Manifest, read_manifest
from guardlib.report.style import looks

START, END = "<!-- results:start -->", "<!-- results:end -->"
SYSTEMS = ("guard", "fast", "deep", "finetuned_backbone", "tfidf", "rules")


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
    baselines = [name for name in systems if name not in ("guard", "fast", "deep")]
    cpu = manifests["07_cpu_latency"].machine["cpu"]
    released = manifests["06_quantize_onnx"].headline
    parts = [
        origin(profile, manifests),
        "Percent, with 95 % intervals, at the threshold 0.5; the aims are the project's own.",
        tables.to_markdown(detection_at_a_glance(default, ["guard", *baselines])),
        tables.to_markdown(cost_at_a_glance(latency, released["released_mb"], released["released"])),
        "![Attacks caught, and benign text under the same transform flagged](figures/detection_per_attack.png)",
        folded(
            "Every benchmark, with the branches apart",
            tables.to_markdown(tables.main_results(default, systems, accuracy=True)),
        ),
        folded(
            "Every transform on attacks, and on benign text (the routed guard)",
            tables.to_markdown(matched_table(matched)),
        ),
        folded(
            f"Latency by length: raw string to verdict, one text each, INT8, on {cpu}",
            tables.to_markdown(tables.latency_table(latency, reference="BERT-6")),
        ),
        folded("Files of the guard", tables.to_markdown(size_table(sizes))),
        folded("The run, stage by stage", tables.to_markdown(stage_table(manifests))),
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


#: What a reader looks for first: benchmark, measure, in words, what the project aims at.
_GLANCE = (
    ("notinject", "fpr", "NotInject: benign sentences with attackers' words flagged", "< 10"),
    ("over_defence", "fpr", "ordinary benign text flagged (over-defence sets)", ""),
    ("deepset_test", "tpr", "deepset test: injections caught", ""),
    ("deepset_test", "fpr", "deepset test: benign flagged", ""),
    ("jbb_artifacts", "tpr", "JailbreakBench artifacts caught", ""),
    ("bipia", "tpr", "BIPIA: instructions planted in documents caught", ""),
    ("bipia", "fpr", "BIPIA: the documents without them flagged", ""),
    ("flipattack", "tpr", "FlipAttack caught", "> 80"),
    ("flipattack", "fpr", "benign text flipped the same way flagged", ""),
    ("transforms", "tpr", "other transforms: hidden attacks caught", ""),
    ("transforms", "fpr", "benign text under the same transforms flagged", ""),
)


def detection_at_a_glance(summary: pd.DataFrame, systems: list[str]) -> pd.DataFrame:
    """The rates of _GLANCE that ``summary`` holds, as printed: Measure, n, aim, and a column per system."""
    names = {name: look.label for name, look in looks(systems).items()}
    rows = []
    for benchmark, measure, words, aim in _GLANCE:
        part = summary[summary["benchmark"] == benchmark].set_index("system")
        if "guard" not in part.index:
            continue
        own = part.loc["guard"]
        row = {"Measure": words, "n": f"{int(own['n_pos' if measure == 'tpr' else 'n_neg']):,}", "Aim": aim}
        for system in systems:
            found = part.loc[system] if system in part.index else {}
            ends = (found.get(f"{measure}{end}", float("nan")) for end in ("", "_low", "_high"))
            row[names[system]] = tables.rate(*ends)
        rows.append(row)
    return pd.DataFrame(rows)


def cost_at_a_glance(latency: pd.DataFrame, megabytes: float, precision: str) -> pd.DataFrame:
    """Time of one text, how often faster than the shapes of other guards at P50, and size: Cost, Aim, Measured."""
    times = percentiles(latency)
    times = times[times["tokens"] == ALL_LENGTHS].set_index("system")
    guard = times.loc["guard"]
    rows = [
        ("P50, raw string to verdict, one text", "", f"{guard.p50_ms:.1f} ms"),
        ("P95", "< 20 ms", f"{guard.p95_ms:.1f} ms"),
    ]
    for reference, time in times.drop(index="guard").iterrows():
        label = looks([reference])[reference].label
        rows.append((f"times as fast as {label} at P50", "", f"{time.p50_ms / guard.p50_ms:.1f} ×"))
    rows.append((f"on disk ({precision})", "< 80 MB", f"{megabytes:.1f} MB"))
    return pd.DataFrame(rows, columns=["Cost", "Aim", "Measured"])


def folded(title: str, table: str) -> str:
    """A table that a reader opens with a click."""
    return f"<details>\n<summary>{title}</summary>\n\n{table.strip()}\n\n</details>"


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
