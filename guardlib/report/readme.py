"""The README's numbers, from the artifacts of a finished run: ``python -m guardlib.report.readme``.

Everything between the two markers of the run's profile is replaced; a run of the default profile fills the minutes in
the table of notebooks, too. ``--appendix`` does it for notebook 09. Nothing else is touched.
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
from guardlib.evaluation import metrics
from guardlib.evaluation.benchmarks import BENCHMARKS, paired_rows
from guardlib.evaluation.timings import ALL_LENGTHS, percentiles
from guardlib.paths import APPENDIX, STAGES, figures_folder, project_root, stage_folder
from guardlib.report import tables
from guardlib.report.provenance import Manifest, of_one_run, read_manifest
from guardlib.report.style import looks, readable
from guardlib.runtime.decision import DEFAULT_THRESHOLD

START, END = "<!-- results of {}: start -->", "<!-- results of {}: end -->"  # profile
_APPENDIX = "distillation"  # what its markers are called
_DEFAULT = "laptop"  # the run whose minutes the table of notebooks has
#: What a reader looks for first: of which texts each benchmark is made, and what the project aims at (percent of
#: attacks caught / of benign texts flagged; a dash where it set itself no figure).
GLANCE = {
    "notinject": ("benign sentences with attackers' words", "– / ≤ 8"),
    "over_defence": ("benign: ordinary, role-play, attackers' words, security work, other languages", "–"),
    "deepset_test": ("direct injections; questions", "≥ 88 / ≤ 3"),
    "jbb_artifacts": ("jailbreaks that attack methods found", "≥ 95 / –"),
    "jbb_behaviors_benign": ("benign requests on sensitive topics", "–"),
    "bipia": ("instructions planted in documents; the documents without them", "≥ 85 / ≤ 5"),
    "long_documents": ("the same in 500 to 5,000 tokens", "–"),
    "flipattack": ("harmful requests, reversed; benign text reversed alike", "≥ 90 / ≤ 8"),
    "flipattack_wrapped": ("the same with instructions how to read it", "–"),
    "codechameleon": ("harmful requests behind a decryption function; benign text alike", "≥ 85 / ≤ 8"),
    "hidden_injections": ("prompt injections reversed, encoded or disguised; benign text alike", "≥ 85 / ≤ 8"),
    "transforms": ("harmful requests in encodings and character tricks; benign text alike", "≥ 85 / ≤ 8"),
}
#: How many times as fast at P50 the guard is meant to be.
FASTER = {"BERT-6": "≥ 1.5 ×", "DeBERTa-xsmall": "≥ 5 ×", "DeBERTa-base": "≥ 15 ×"}
_NOTEBOOK = re.compile(r"^(\| \[(\d\d_\w+)\]\([^)]*\) \|[^|]*\|)[^|]*\|", re.MULTILINE)  # …, purpose, minutes
SYSTEMS = ("guard", "fast", "deep", "finetuned_backbone", "frozen_backbone", "tfidf", "rules")
#: Files of a run that the README's tables are read from: rates with n and interval, and what each precision costs.
TRACES = (
    ("05_benchmarks", "benchmark_summary.csv"),
    ("06_quantize_onnx", "gate.csv"),
    ("06_quantize_onnx", "precisions.csv"),
    ("04_router_analysis", "paired.csv"),
)
#: The same of notebook 09.
APPENDIX_TRACES = tuple((APPENDIX[0], f"{name}.csv") for name in ("runs", "summary", "guards", "guard_effect"))


def results_section(profile: str, root: Path | None = None) -> str:
    """Markdown with the results of the finished run of ``profile``.

    Raises:
        FileNotFoundError: a stage has no manifest, or read others than those that are there; the message names it and
            the command that makes one.
    """
    folders = {stage: stage_folder(profile, stage, root) for stage in STAGES}
    manifests = {stage: read_manifest(folder) for stage, folder in folders.items()}
    if fault := of_one_run(manifests):
        raise FileNotFoundError(f"{fault}; run: python run_all.py --profile {profile}")
    summary = pd.read_csv(folders["05_benchmarks"] / "benchmark_summary.csv")
    guard_rows = pd.read_parquet(folders["06_quantize_onnx"] / "released_scores.parquet").assign(system="guard")
    results = json.loads((folders["05_benchmarks"] / "benchmark_results.json").read_text(encoding="utf-8"))
    latency = pd.read_parquet(folders["07_cpu_latency"] / "latency.parquet")
    sizes = pd.read_csv(folders["06_quantize_onnx"] / "sizes.csv")
    others = summary[(summary["threshold"] == "default") & (summary["system"] != "guard")]
    default = pd.concat([metrics.headline(guard_rows), others], ignore_index=True)
    systems = [name for name in SYSTEMS if name in set(default["system"])]
    matched = metrics.matched_detection(paired_rows(guard_rows))
    ranked = pd.DataFrame(results["ranking"])
    ranked = ranked[(ranked["benchmark"] == "all") & ranked["system"].isin(systems) & (ranked["metric"] != "f1")]
    known = [{"System": looks([row["system"]])[row["system"]].label, "What it is": row["what it is"]}
             for row in results.get("systems", []) if row["system"] in systems]  # fmt: skip
    cpu = manifests["07_cpu_latency"].machine["cpu"]
    released = manifests["06_quantize_onnx"].headline
    figure = figures_folder(profile, root).relative_to(root or project_root()) / "detection_per_attack.png"
    kept = traces(profile, root).relative_to(root or project_root())
    parts = [
        origin(profile, manifests),
        f"**Detection** (percent, 95 % interval; threshold {DEFAULT_THRESHOLD:g}; the guard as released, in "
        f"{released['released']})",
        tables.to_markdown(detection_at_a_glance(default, [name for name in ("guard", "tfidf") if name in systems])),
        f"**Cost** ({released['released']}, one text at a time, on {cpu})",
        tables.to_markdown(cost_at_a_glance(latency, released["released_mb"], manifests["07_cpu_latency"].headline)),
        f"![Attacks caught, and benign text under the same transform flagged; as trained, in float32]"
        f"({figure.as_posix()})",
        folded(
            f"Every benchmark: the guard as released ({released['released']}), its branches as trained (float32), and "
            "the other systems",
            tables.to_markdown(tables.main_results(default, systems, accuracy=True)),
        ),
        folded("What each benchmark measures", tables.to_markdown(benchmark_table(default["benchmark"].unique()))),
        folded(
            "Free of any threshold: all benchmarks together, as trained (float32)",
            tables.to_markdown(tables.rates_by(ranked, "metric", n="clusters")),
        ),
        folded(
            "Every transform on attacks, and on benign text (the routed guard)",
            tables.to_markdown(tables.matched_detection(matched)),
        ),
        folded(
            f"Latency by length: raw string to verdict, one text at a time, {released['released']}, on {cpu}; the "
            "shapes beside the guard have random weights and read at most 512 tokens, the guard reads all",
            tables.to_markdown(tables.latency_table(latency, reference="BERT-6")),
        ),
        *([folded("What each system is", tables.to_markdown(pd.DataFrame(known)))] if known else []),
        folded("Files of the guard", tables.to_markdown(size_table(sizes))),
        folded("The run, stage by stage", tables.to_markdown(stage_table(manifests))),
        f"What stands behind these tables is in `{kept.as_posix()}`: {', '.join(name for _, name in TRACES)}. Their "
        f"rows, one per text and system, are made again by `python run_all.py --profile {profile}`.",
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def appendix_section(profile: str, root: Path | None = None) -> str:
    """Markdown with what notebook 09 of ``profile`` found.

    Raises:
        FileNotFoundError: it has no manifest; the message names the command that makes one.
    """
    folder = stage_folder(profile, APPENDIX[0], root)
    manifest = read_manifest(folder)
    if manifest is None:
        raise FileNotFoundError(f"{folder} has no manifest; run: python run_all.py --profile {profile} --only 09")
    summary, sizes, effect = (pd.read_csv(folder / f"{name}.csv") for name in ("summary", "sizes", "guard_effect"))
    students = pd.DataFrame(
        {
            "Student": summary["recipe"].map(readable),
            "Seeds": summary["seeds"],
            "Test perplexity": [_interval(row.perplexity, row.low, row.high) for row in summary.itertuples()],
            "Less that of routed": [
                _interval(row.difference, row.difference_low, row.difference_high, "+") for row in summary.itertuples()
            ],
        }
    )
    student = sizes.set_index("model").loc["student"]
    together = effect[effect["benchmark"] == "all"]
    guards = pd.DataFrame(
        {
            "Guard, all benchmarks (percent)": together["metric"].map({"auroc": "AUROC", "tpr": "TPR", "fpr": "FPR"}),
            "Seeds": together["seeds"],
            "Alone": [tables.rate(value) for value in together["alone"]],
            "Taught": [tables.rate(value) for value in together["taught"]],
            "Difference": [tables.rate(row.difference, row.low, row.high) for row in together.itertuples()],
        }
    )
    machine, kept = manifest.machine, traces(profile, root).relative_to(root or project_root())
    parts = [
        f"Profile `{profile}`, commit `{manifest.commit}`, seed {manifest.seed}, {manifest.seconds / 60:.0f} minutes "
        f"on {machine['cpu']}, {machine['cores']} cores. The teacher's perplexity, over tokens of its own, is "
        f"{manifest.headline['teacher_perplexity']:.1f}. The student has 1/{student.parameters_ratio:.1f} of its "
        f"parameters and is {student.ms_per_sequence_ratio:.1f} times as fast. Intervals are 95 %, over "
        "seeds of training.",
        tables.to_markdown(students),
        (folder / "verdict.txt").read_text(encoding="utf-8"),
        tables.to_markdown(guards),
        f"What stands behind these tables is in `{kept.as_posix()}`: {', '.join(name for _, name in APPENDIX_TRACES)}.",
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _interval(value: float, low: float, high: float, sign: str = "") -> str:
    return tables.DASH if pd.isna(value) else f"{value:{sign}.2f} [{low:{sign}.2f}, {high:{sign}.2f}]"


def detection_at_a_glance(summary: pd.DataFrame, systems: Sequence[str]) -> pd.DataFrame:
    """Benchmarks of GLANCE with what each system catches and which benign text it flags, as printed.

    Args:
        summary: as ``metrics.headline`` gives it, at one threshold.
        systems: the first is the one whose rows are counted.

    Returns:
        Columns Benchmark, Texts, n (attacks / benign), two per system, and Aim (caught / flagged). Benchmarks that did
        not run are left out.
    """
    names = {name: look.label for name, look in looks(list(systems)).items()}
    rows = []
    for benchmark, (texts, aim) in GLANCE.items():
        part = summary[summary["benchmark"] == benchmark].set_index("system")
        if systems[0] not in part.index:
            continue
        n = [int(part.loc[systems[0], column]) for column in ("n_pos", "n_neg")]
        row = {"Benchmark": readable(benchmark), "Texts": texts, "n": " / ".join(f"{k:,}" if k else "–" for k in n)}
        for system, name in names.items():
            for measure, words in (("tpr", "caught"), ("fpr", "benign flagged")):
                ends = (f"{measure}{end}" for end in ("", "_low", "_high"))
                cell = tables.rate(*part.loc[system, list(ends)]) if system in part.index else tables.DASH
                row[f"{name}: {words}"] = cell
        rows.append(row | {"Aim": aim})
    return pd.DataFrame(rows)


def cost_at_a_glance(latency: pd.DataFrame, megabytes: float, headline: dict[str, float]) -> pd.DataFrame:
    """Time of one text over all lengths, how much faster than other shapes (ratio of medians), and what else it costs.

    Args:
        megabytes: of the guard's folder.
        headline: of stage 07: texts_per_second, cold_start_seconds, resident_mb.

    Returns:
        Columns Cost, Measured, Aim.
    """
    times = percentiles(latency, "guard")
    times = times[times["tokens"] == ALL_LENGTHS].set_index("system")
    guard = times.loc["guard"]
    rows = [
        ("P50, raw string to verdict", f"{guard.p50_ms:.1f} ms", tables.DASH),
        ("P95", f"{guard.p95_ms:.1f} ms", "≤ 5 ms, at most 20"),
    ]
    for reference, time in times.drop(index="guard").iterrows():
        label = looks([reference])[reference].label
        faster = f"{1 / time.speed_up:.1f} ×"
        rows.append((f"times as fast as {label}, P50", faster, FASTER.get(reference, tables.DASH)))
    rows += [
        (
            "throughput, the best of 1, 2, 4… processes or threads",
            f"{headline['texts_per_second']:.0f} texts/s",
            "≥ 600 texts/s",
        ),
        ("import, load and first verdict", f"{headline['cold_start_seconds']:.1f} s", "≤ 1.5 s"),
        ("resident memory", f"{headline['resident_mb']:.0f} MB", "≤ 300 MB"),
        ("on disk", f"{megabytes:.1f} MB", "≤ 40 MB"),
    ]
    return pd.DataFrame(rows, columns=["Cost", "Measured", "Aim"])


def folded(title: str, table: str) -> str:
    """A table that a reader opens with a click."""
    return f"<details>\n<summary>{title}</summary>\n\n{table.strip()}\n\n</details>"


def benchmark_table(names: Sequence[str]) -> pd.DataFrame:
    """What the registry says of benchmarks: columns Benchmark, Measures, Attacks."""
    known = [BENCHMARKS[name] for name in names if name in BENCHMARKS]
    rows = [(readable(item.name), item.measures, item.positive) for item in known]
    return pd.DataFrame(rows, columns=["Benchmark", "Measures", "Attacks"])


def size_table(sizes: pd.DataFrame) -> pd.DataFrame:
    """Megabytes per precision: of the weights in theory, and of all files on disk."""
    totals = sizes.groupby("precision", sort=False)[["theory_bytes", "bytes"]].sum()
    shown = {name: [f"{value / 1e6:.1f} MB" for value in totals[name]] for name in totals}
    return pd.DataFrame(
        {"Precision": totals.index, "Weights, in theory": shown["theory_bytes"], "On disk": shown["bytes"]}
    )


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
    changed = dict.fromkeys(f"`{each}`" for manifest in manifests.values() for each in overridden(manifest.profile))
    named = f"`{profile}`" + (f" with {', '.join(changed)}" if changed else "")
    return (
        f"Profile {named}, commit {', '.join(commits)}, seed {last.seed}, {total:.0f} minutes on {machine['cpu']}, "
        f"{machine['cores']} cores, {machine['memory'] / 2**30:.0f} GiB. Data: {last.notes}."
    )


def overridden(profile: dict) -> list[str]:
    """Settings of a resolved profile that are not the named profile's own, as ``section.name=value``."""
    own = PROFILES[profile["name"]].to_dict()
    parts = [
        ("", profile, own),
        *((f"{part}.", profile[part], own[part]) for part in own if isinstance(own[part], dict)),
    ]
    return [
        f"{prefix}{name}={json.dumps(value)}"
        for prefix, values, named in parts
        for name, value in values.items()
        if not isinstance(value, dict) and value != named.get(name)
    ]


def traces(profile: str, root: Path | None = None) -> Path:
    """The folder of the files behind the README's tables, which is small enough to be kept with it."""
    return figures_folder(profile, root) / "results"


def keep_traces(profile: str, root: Path | None = None, traced: Sequence[tuple[str, str]] = TRACES) -> None:
    """Copy :data:`TRACES` (or others) of a finished run into :func:`traces`: the rows that ran.

    Why others did not is about the machine (its folders, its network), and not for the repository.
    """
    folder = traces(profile, root)
    folder.mkdir(parents=True, exist_ok=True)
    for stage, name in traced:
        rows = pd.read_csv(stage_folder(profile, stage, root) / name, dtype=str, keep_default_na=False)
        if "state" in rows:
            rows = rows[rows["state"] == "ran"]
        rows.to_csv(folder / name, index=False)


def update(readme: Path, profile: str, section: str, minutes: dict[str, float] | None = None) -> None:
    """Replace what stands between the markers of ``profile``, and each notebook's ``minutes``, where given.

    Args:
        minutes: by stage; of others a dash is shown.

    Raises:
        ValueError: the README has no markers for this profile.
    """
    text = readme.read_text(encoding="utf-8")
    start, end = START.format(profile), END.format(profile)
    if text.count(start) != 1 or text.count(end) != 1:
        raise ValueError(f"{readme} must hold {start} and {end} once each")
    before, rest = text.split(start)
    text = f"{before}{start}\n\n{section}\n{end}{rest.split(end)[1]}"
    if minutes is not None:
        known = {stage: f"{value:.1f}" for stage, value in minutes.items()}
        text = _NOTEBOOK.sub(lambda row: f"{row[1]} {known.get(row[2], tables.DASH)} |", text)
    readme.write_text(text, encoding="utf-8")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="write the results of a finished run into README.md")
    parser.add_argument("--profile", choices=list(PROFILES), default=_DEFAULT, help=f"default: {_DEFAULT}")
    parser.add_argument("--appendix", action="store_true", help="what notebook 09 found, instead of the other eight")
    options = parser.parse_args(arguments)
    profile = options.profile
    try:
        if options.appendix:
            update(project_root() / "README.md", _APPENDIX, appendix_section(profile))
            keep_traces(profile, traced=APPENDIX_TRACES)
            print("README.md updated")
            return 0
        section = results_section(profile)
        manifests = {stage: read_manifest(stage_folder(profile, stage)) for stage in STAGES + APPENDIX}
        minutes = {stage: manifest.seconds / 60 for stage, manifest in manifests.items() if manifest}
        update(project_root() / "README.md", profile, section, minutes if profile == _DEFAULT else None)
        keep_traces(profile)
    except (FileNotFoundError, ValueError) as error:
        print(json.dumps(str(error))[1:-1], file=sys.stderr)
        return 1
    print("README.md updated")
    return 0


if __name__ == "__main__":
    sys.exit(main())
