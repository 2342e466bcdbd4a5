"""A finished run as Markdown: in short for the README, in full beside the files that its tables are read from."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from guardlib.config import PROFILES
from guardlib.evaluation import metrics
from guardlib.evaluation.benchmarks import paired_rows, pooled_rows, read_status
from guardlib.evaluation.ranking import FEWEST_ALARMS, OVERALL
from guardlib.evaluation.timings import percentiles
from guardlib.paths import STAGES, figures_folder, project_root, stage_folder
from guardlib.report import tables
from guardlib.report.glance import (
    MEASURES,
    classes_at_a_glance,
    cost_at_a_glance,
    detection_at_a_glance,
    ranking_at_a_glance,
)
from guardlib.report.provenance import Manifest, of_one_run, read_manifest
from guardlib.report.style import looks, readable
from guardlib.runtime.decision import DEFAULT_THRESHOLD

#: Of these the tables have a column, in this order, where they ran.
SYSTEMS = ("guard", "fast", "deep", "finetuned_backbone", "frozen_backbone", "tfidf", "rules")
_GLANCED = ("guard", "tfidf")
_RATES = {"tpr": "attacks caught", "fpr": "benign flagged"}
#: What else stage 05 found, of the systems as trained: heading → its name in the results, and the columns that name a
#: row, as printed.
_BREAKDOWNS = {
    "Benign texts flagged, by kind": ("over_defence", {"kind": "Texts"}),
    "Benign texts flagged where the threshold flags {target} of benign validation texts": (
        "threshold_transfer", {"kind": "Texts"}
    ),
    "NotInject flagged, by category": ("notinject_categories", {"family": "Category"}),
    "Jailbreaks missed, by the method that found them": ("attack_success", {"variant": "Method"}),
    "Harmful requests flagged, which are no attacks here": ("harmful_requests", {"benchmark": "Benchmark"}),
    "Long documents, by where the attack stands": (
        "long_documents", {"variant": "Length", "family": "Attack", "metric": "Measure"}
    ),
    "Other languages": ("languages", {"family": "Language", "metric": "Measure"}),
    "Verdicts turned by another case, spacing or punctuation": ("flips", {"variant": "Change"}),
    "PINT's score": ("pint", {"benchmark": "Benchmark", "formula": "Formula"}),
}  # fmt: skip

#: What the files beside the tables hold.
_FILES = {
    "released_summary.csv": "rates of the guard as released, by benchmark, at 0.5",
    "benchmark_summary.csv": "rates of every system as trained (`guard` in float32; `fast`, `deep`: no text, every "
    "text sent deep), by benchmark, at 0.5 (`default`) and at the point that validation gives for the target rate",
    "matched_detection.csv": "each transform on attacks and on benign text, of the guard as released",
    "confusion.csv": "which class the texts of each class were given, of the guard as released",
    "ranking.csv": "AUROC, average precision, recall at given false-positive rates, of every system as trained",
    "gate.csv": "what each precision loses on each metric, and whether it may be released",
    "precisions.csv": "how far each precision is from the model as trained",
    "sizes.csv": "parameters and bytes of each precision, by graph",
    "paired.csv": "the router against other ways to choose what goes deep, text by text",
    "latency_summary.csv": "percentiles of time by system and length",
    "cost_by_length.csv": "time of one text of so many characters",
    "throughput_by_workers.csv": "texts per second by processes and threads",
    "stages.csv": "commit, time, peak memory and headline of each stage",
}


@dataclass(frozen=True)
class Run:
    """What the eight stages of a finished run left on disk."""

    profile: str
    folders: dict[str, Path]
    manifests: dict[str, Manifest]

    @classmethod
    def read(cls, profile: str, root: Path | None = None) -> Run:
        """The last run of ``profile``.

        Raises:
            FileNotFoundError: a stage has no manifest, or read others than those that are there; the message names it
                and the command that makes one.
        """
        folders = {stage: stage_folder(profile, stage, root) for stage in STAGES}
        manifests = {stage: read_manifest(folder) for stage, folder in folders.items()}
        if fault := of_one_run(manifests):
            raise FileNotFoundError(f"{fault}; run: python run_all.py --profile {profile}")
        return cls(profile, folders, manifests)

    def table(self, stage: str, name: str) -> pd.DataFrame:
        """A CSV file of a stage."""
        return pd.read_csv(self.folders[stage] / name)

    @cached_property
    def guard_rows(self) -> pd.DataFrame:
        """Score rows of the released precision."""
        return pd.read_parquet(self.folders["06_quantize_onnx"] / "released_scores.parquet").assign(system="guard")

    @cached_property
    def latency(self) -> pd.DataFrame:
        """A row per timed text."""
        return pd.read_parquet(self.folders["07_cpu_latency"] / "latency.parquet")

    @cached_property
    def results(self) -> dict:
        """What stage 05 found of the systems as trained."""
        return json.loads((self.folders["05_benchmarks"] / "benchmark_results.json").read_text(encoding="utf-8"))

    @cached_property
    def released_summary(self) -> pd.DataFrame:
        """Rates of the released precision at the default threshold, by benchmark."""
        return metrics.headline(self.guard_rows)

    @cached_property
    def summary(self) -> pd.DataFrame:
        """The same, and beside it the other systems as trained."""
        rows = self.table("05_benchmarks", "benchmark_summary.csv")
        others = rows[(rows["threshold"] == "default") & (rows["system"] != "guard")]
        return pd.concat([self.released_summary, others], ignore_index=True)

    @property
    def systems(self) -> list[str]:
        """Those of :data:`SYSTEMS` that ran."""
        return [name for name in SYSTEMS if name in set(self.summary["system"])]

    @cached_property
    def ranking(self) -> pd.DataFrame:
        """What needs no threshold, by benchmark and over all of them ("all"), of the systems as trained."""
        ranked = pd.DataFrame(self.results["ranking"])
        return ranked[ranked["system"].isin(self.systems) & ranked["metric"].isin(MEASURES)]

    @cached_property
    def classes(self) -> pd.DataFrame:
        """Which class the texts of each were given by the released precision, all benchmarks together."""
        return metrics.confusion(pooled_rows(metrics.prepared(self.guard_rows)))

    @cached_property
    def matched(self) -> pd.DataFrame:
        """Each transform on attacks, of either kind, and on benign text, of the released precision."""
        return metrics.matched_detection(paired_rows(self.guard_rows))

    @property
    def released(self) -> str:
        """Name of the released precision."""
        return self.manifests["06_quantize_onnx"].headline["released"]

    @property
    def cpu(self) -> str:
        """What latency was measured on."""
        return self.manifests["07_cpu_latency"].machine["cpu"]

    @property
    def tokens(self) -> int:
        """Training tokens that were read."""
        return int(self.table("03_train", "history.csv")["tokens"].max())

    def derived(self) -> dict[str, pd.DataFrame]:
        """Tables that are computed for the reader from score rows and timings, by file name."""
        stages = [{"stage": stage, "commit": manifest.commit, "seconds": manifest.seconds,
                   "peak_memory": manifest.peak_memory, "headline": json.dumps(manifest.headline)}
                  for stage, manifest in self.manifests.items()]  # fmt: skip
        return {
            "released_summary.csv": self.released_summary,
            "matched_detection.csv": self.matched,
            "confusion.csv": self.classes,
            "ranking.csv": self.ranking,
            "latency_summary.csv": percentiles(self.latency, "guard"),
            "stages.csv": pd.DataFrame(stages),
        }


def results_folder(profile: str, root: Path | None = None) -> Path:
    """Where the full results of a run and the files behind them are kept, small enough for the repository."""
    return figures_folder(profile, root) / "results"


def in_short(run: Run, root: Path | None = None) -> str:
    """The README's block: detection, classes, what needs no threshold, cost, one picture."""
    figure = figures_folder(run.profile, root).relative_to(root or project_root()) / "detection_per_attack.png"
    full = (results_folder(run.profile, root).relative_to(root or project_root())).as_posix()
    shown = [name for name in _GLANCED if name in run.systems]
    clusters = int(run.ranking.loc[run.ranking["benchmark"] == OVERALL, "clusters"].max())
    caption = "Attacks caught, and benign text under the same transform flagged; as trained, in float32"
    parts = [
        origin(run),
        f"**Detection** (percent, 95 % interval; threshold {DEFAULT_THRESHOLD:g}; the guard as released, in "
        f"{run.released}). Aim: attacks caught / benign texts flagged.",
        tables.to_markdown(detection_at_a_glance(run.summary, shown)),
        *_not_run(run),
        "**Free of any threshold**, all benchmarks that repeat no other, together (percent; as trained, in float32; "
        f"intervals by bootstrap over {clusters:,} base texts)",
        tables.to_markdown(ranking_at_a_glance(run.ranking, shown)),
        f"**Classes**, the same benchmarks (percent of the texts of a class; {run.released})",
        tables.to_markdown(classes_at_a_glance(run.classes)),
        f"**Cost** ({run.released}, one text at a time, on {run.cpu})",
        tables.to_markdown(cost_at_a_glance(run.latency, run.manifests["06_quantize_onnx"].headline["released_mb"],
                                            run.manifests["07_cpu_latency"].headline)),
        f"![{caption}]({figure.as_posix()})",
        f"*{caption}.*",
        f"All benchmarks, transforms, lengths and stages, with more systems: [`{full}`]({full}/README.md), with the "
        "files behind these tables.",
    ]  # fmt: skip
    return "\n\n".join(part.strip() for part in parts) + "\n"


def in_full(run: Run, root: Path | None = None) -> str:
    """All tables of a run, for the folder of :func:`results_folder`."""
    known = [{"System": looks([row["system"]])[row["system"]].label, "What it is": row["what it is"]}
             for row in run.results.get("systems", []) if row["system"] in run.systems]  # fmt: skip
    single = run.ranking[run.ranking["benchmark"] != OVERALL]
    sections = {
        f"Every benchmark: the guard as released ({run.released}), its branches as trained (float32), and the others": (
            tables.main_results(run.summary, run.systems, accuracy=True)
        ),
        "What each benchmark measures": benchmark_table(run),
        "What each system is": pd.DataFrame(known),
        "Free of any threshold: all benchmarks that repeat no other, together, as trained (float32)": (
            ranking_at_a_glance(run.ranking, run.systems)
        ),
        "AUROC of each benchmark that has both attacks and benign texts, as trained (float32)": tables.rates_by(
            single[single["metric"] == "auroc"], "benchmark", n="clusters"
        ),
        f"Attacks caught where at most 1 % of a benchmark's benign texts ({100 * FEWEST_ALARMS} or more) are flagged, "
        "as trained (float32)": tables.rates_by(
            single[(single["metric"] == "recall_at_fpr_0.01") & single["value"].notna()], "benchmark", n="clusters"
        ),
        "Every transform on attacks, and on benign text (the guard as released)": tables.matched_detection(run.matched),
        f"Latency by length: raw string to verdict, one text at a time, {run.released}, on {run.cpu}; the shapes "
        "beside the guard have random weights and read at most 512 tokens, the guard reads all": (
            tables.latency_table(run.latency, reference="BERT-6")
        ),
        "The router against other ways to choose what goes deep, on the test split (four classes, float32)": (
            router_table(run)
        ),
        **breakdown_tables(run),
        "The guard against each other system, text by text, as trained (float32)": comparison_table(run),
        "Files of the guard": size_table(run.table("06_quantize_onnx", "sizes.csv")),
        "The run, stage by stage": stage_table(run.manifests),
        "The files": pd.DataFrame({"File": [f"`{name}`" for name in _FILES], "Holds": _FILES.values()}),
    }
    parts = [f"# Results of profile `{run.profile}`", origin(run), "Written by `python -m guardlib.report.readme`."]
    for title, table in sections.items():
        if len(table):
            parts += [f"## {title}", tables.to_markdown(table)]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def benchmark_table(run: Run) -> pd.DataFrame:
    """What stage 01 said of the benchmarks: columns Benchmark, Ran, Measures, Attacks."""
    status = read_status(run.folders["01_data"])
    return pd.DataFrame(
        {
            "Benchmark": status["benchmark"].map(readable),
            "Ran": [_how_it_ran(row) for row in status.itertuples()],
            "Measures": status["measures"],
            "Attacks": status["positive"],
        }
    )


def _how_it_ran(row: tuple) -> str:
    """In words, from a row of the benchmarks' status."""
    if not row.ran:
        return "no: it failed" if row.failed else "no: its data were not there"
    return f"yes, without {', '.join(row.absent_sources)}" if row.absent_sources else "yes"


def _not_run(run: Run) -> list[str]:
    """A line that names the benchmarks whose data were not there, if any."""
    status = read_status(run.folders["01_data"])
    absent = ~status["ran"].astype(bool) & ~status["failed"].astype(bool)
    names = ", ".join(map(readable, status.loc[absent, "benchmark"]))
    return [f"Not run, for want of their data: {names}."] if names else []


def breakdown_tables(run: Run) -> dict[str, pd.DataFrame]:
    """Tables of :data:`_BREAKDOWNS` by heading; of systems as trained, at 0.5 where the heading says nothing else."""
    found = {}
    for title, (name, by) in _BREAKDOWNS.items():
        rows = pd.DataFrame(run.results[name])
        if len(rows):
            rows = rows[rows["system"].isin(run.systems)]
            target = f"{100 * rows['target'].iloc[0]:.3g} %" if "target" in rows else ""
            table = tables.rates_by(rows.replace({"metric": _RATES}), *by).rename(columns=by)
            found[f"{title.format(target=target)}, as trained (float32)"] = table
    return found


def comparison_table(run: Run) -> pd.DataFrame:
    """What the guard gains on each other system over all benchmarks, paired: points with their interval, Holm's p."""
    rows = pd.DataFrame(run.results["comparisons"])
    gains = [f"{100 * r.difference:.1f} [{100 * r.low:.1f}, {100 * r.high:.1f}]" for r in rows.itertuples()]
    p = [f"{value:.2g}" if pd.notna(value) else tables.DASH for value in rows["p_holm"]]
    names = {name: look.label for name, look in looks(list(rows["other"].unique())).items()}
    shown = {"Other": rows["other"].map(names), "Metric": rows["metric"], "n": rows["n"].map("{:,}".format)}
    return pd.DataFrame(shown | {"The guard gains (points)": gains, "p (Holm)": p})


def router_table(run: Run) -> pd.DataFrame:
    """Accuracy of each way to choose, and what the router gains on it where they were compared text by text."""
    p_random = run.manifests["04_router_analysis"].headline["p_router_is_random"]
    paired = run.table("04_router_analysis", "paired.csv").set_index("rival")
    rows = []
    for way in run.table("04_router_analysis", "at_budget.csv").itertuples():
        row = {"Chosen by": way.policy, "n": f"{way.n:,}", "Accuracy": tables.rate(way.accuracy, way.low, way.high)}
        row |= {"The router gains (points)": tables.DASH, "p": tables.DASH}
        if way.policy in paired.index:
            other = paired.loc[way.policy]
            row["The router gains (points)"] = f"{other.points:.2f} [{other.low:.2f}, {other.high:.2f}]"
            row["p"] = f"{other.p:.3g}"
        elif way.policy == "random":
            row["p"] = f"{p_random:.2g}"
        rows.append(row)
    return pd.DataFrame(rows)


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


def origin(run: Run) -> str:
    """Where the numbers come from; where stages ran at different commits, which ran at which."""
    profile, manifests = run.profile, run.manifests
    last = manifests["08_paper_figures"]
    machine = last.machine
    total = sum(manifest.seconds for manifest in manifests.values()) / 60
    stages: dict[str, list[str]] = {}
    for stage, manifest in manifests.items():
        stages.setdefault(manifest.commit, []).append(stage[:2])
    commits = [f"`{commit}`" + f" ({', '.join(of)})" * (len(stages) > 1) for commit, of in stages.items()]
    settings = (each for manifest in manifests.values() for each in overridden(manifest.profile))
    changed = dict.fromkeys(f"`{each}`" for each in settings if not each.startswith("distillation."))  # of 09 alone
    named = f"`{profile}`" + (f" with {', '.join(changed)}" if changed else "")
    return (
        f"Profile {named}, commit {', '.join(commits)}, seed {last.seed}, {total:.0f} minutes on {machine['cpu']}, "
        f"{machine['cores']} cores, {machine['memory'] / 2**30:.0f} GiB; trained on "
        f"{run.tokens / 1e6:.1f} million tokens. Data: {last.notes}."
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
