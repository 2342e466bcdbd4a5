"""Stage 08: results that earlier stages wrote → every figure and table of the paper. No model runs here."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from guardlib.evaluation import breakdowns, metrics
from guardlib.evaluation.benchmarks import paired_rows, pooled_rows
from guardlib.evaluation.scores import read_scores
from guardlib.report import figures, tables

HEADLINE_SYSTEMS = ("guard", "fast", "deep", "tfidf", "rules")
#: Name of each table → its caption, in the paper's order.
CAPTIONS = {
    "table1_main_results": "Detection and false positives in percent, with 95 % intervals, as trained (float32).",
    "table2_latency": "From raw string to verdict, one text at a time, on a CPU, in the released precision.",
    "table3_sizes_and_routing": "Bytes on disk, and who takes the deep branch.",
    "table4_transforms": "Attacks caught under each transform, and benign text flagged under the same (percent, "
    "float32).",
    "table5_over_defence": "Benign text flagged, by kind (percent, float32).",
    "table6_data": "Training rows by source and class.",
    "table7_seeds": "The test split by seed (percent); the mean with its 95 % t interval over seeds.",
    "table8_other_systems": "Detection and false positives of the guard and of systems that table 1 has no room for.",
}


@dataclass(frozen=True, slots=True)
class Results:
    """Tidy frames by name, and the provenance line of this run."""

    history: pd.DataFrame
    steps: pd.DataFrame
    routing_curve: pd.DataFrame
    routing_by_label: pd.DataFrame
    scores: pd.DataFrame
    summary: pd.DataFrame
    sizes: pd.DataFrame
    precisions: pd.DataFrame
    latency: pd.DataFrame
    cost_by_length: pd.DataFrame
    records: pd.DataFrame
    sources: list[dict]
    seeds: pd.DataFrame
    provenance: dict[str, str]


def load_results(
    data: Path, trained: Path, routed: Path, scored: Path, exported: Path, timed: Path, provenance: dict[str, str]
) -> Results:
    """Read what stages 01 and 03 to 07 wrote into their folders."""
    return Results(
        history=pd.read_csv(trained / "history.csv"),
        steps=pd.read_csv(trained / "steps.csv"),
        routing_curve=pd.read_csv(routed / "routing_curve.csv"),
        routing_by_label=pd.read_csv(routed / "routing_by_label.csv"),
        scores=read_scores(scored / "scores.parquet"),
        summary=pd.read_csv(scored / "benchmark_summary.csv"),
        sizes=pd.read_csv(exported / "sizes.csv"),
        precisions=pd.read_csv(exported / "precisions.csv"),
        latency=pd.read_parquet(timed / "latency.parquet"),
        cost_by_length=pd.read_csv(timed / "cost_by_length.csv"),
        records=pd.read_parquet(data / "train.parquet", columns=["source", "label"]),
        sources=json.loads((data / "sources.json").read_text(encoding="utf-8")),
        seeds=pd.read_csv(trained / "seeds.csv"),
        provenance=provenance,
    )


def draw_figures(results: Results, budget: float = 0.30) -> dict[str, Figure]:
    """Every figure by file name."""
    guard = results.scores[results.scores["system"] == "guard"]
    pooled = metrics.prepared(pooled_rows(guard))  # plain harmful requests are neither right nor wrong
    benign = breakdowns.over_defence(guard).rename(columns={"kind": "benchmark"})
    matched = metrics.matched_detection(paired_rows(results.scores))
    injections = matched["benchmark"] == "hidden_injections"  # under the same transforms as harmful goals
    goals, injections = matched[~injections], matched[injections]
    return {
        "training_curves": figures.training_curves(results.history, results.steps),
        "routing_over_epochs": figures.routing_over_epochs(results.history, budget),
        "expert_load": figures.expert_load(results.history),
        "routing_curve": figures.routing_curve(results.routing_curve, budget),
        "routing_by_label": figures.routing_by_label(results.routing_by_label, budget),
        "confusion_matrix": figures.confusion_matrix(pooled, system="guard"),
        "detection_per_attack": figures.detection_per_attack(goals[goals["system"] == "guard"]),
        "detection_of_injections": figures.detection_per_attack(injections[injections["system"] == "guard"]),
        "transform_heatmap": figures.transform_heatmap(goals),
        "transform_heatmap_of_injections": figures.transform_heatmap(injections),
        "over_defence": figures.over_defence(benign),
        "score_distribution": figures.score_distribution(pooled, system="guard"),
        "reliability": figures.reliability(metrics.reliability(pooled)),
        "latency_distribution": figures.latency_distribution(results.latency),
        "latency_by_length": figures.latency_by_length(results.latency),
        "cost_by_length": figures.cost_by_length(results.cost_by_length),
        "precisions": figures.precisions(results.precisions),
        "data_composition": figures.data_composition(results.records),
    }


def make_tables(results: Results) -> dict[str, pd.DataFrame]:
    """The paper's tables as frames of strings, by the names of CAPTIONS.

    That of seeds only where several were run, that of other systems where there are more than HEADLINE_SYSTEMS.
    """
    summary = results.summary[results.summary["threshold"] == "default"]
    systems = [name for name in HEADLINE_SYSTEMS if name in set(summary["system"])]
    others = [name for name in summary["system"].dropna().unique() if name not in systems]
    scores = results.scores[results.scores["system"].isin(systems)]
    matched = metrics.matched_detection(paired_rows(scores[scores["system"] == "guard"]))
    made = {
        "table1_main_results": tables.main_results(summary, systems, accuracy=True),
        "table2_latency": tables.latency_table(results.latency, reference="BERT-6"),
        "table3_sizes_and_routing": tables.sizes_and_routing(results.sizes, results.routing_by_label),
        "table4_transforms": tables.matched_detection(matched),
        "table5_over_defence": tables.rates_by(breakdowns.over_defence(scores), "kind"),
        "table6_data": tables.composition(results.records, results.sources),
    }
    by_seed = tables.seeds(results.seeds)
    if len(by_seed) > 2:
        made["table7_seeds"] = by_seed
    if others:
        made["table8_other_systems"] = tables.main_results(summary, ["guard", *others], accuracy=True)
    return made


def save_all(drawn: dict[str, Figure], made: dict[str, pd.DataFrame], results: Results, folder: Path) -> list[Path]:
    """Figures as PDF and PNG into ``folder`` (``stage.figures``), tables as LaTeX into its ``tables/``.

    Tables of an earlier run that this one does not have are removed, or they would be taken for its own.
    """
    saved = [path for name, fig in drawn.items() for path in figures.save_figure(fig, folder, name, results.provenance)]
    for name in CAPTIONS.keys() - made.keys():
        (folder / "tables" / f"{name}.tex").unlink(missing_ok=True)
    for name, frame in made.items():
        saved.append(tables.save_table(frame, folder / "tables", name, results.provenance, caption=CAPTIONS[name]))
    return saved
