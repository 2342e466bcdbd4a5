"""Stage 08: results that earlier stages wrote → every figure and table of the paper. No model runs here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from guardlib.evaluation import breakdowns, metrics
from guardlib.evaluation.benchmarks import paired_rows, pooled_rows
from guardlib.report import figures, tables

HEADLINE_SYSTEMS = ("guard", "fast", "deep", "tfidf", "rules")


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
    latency: pd.DataFrame
    records: pd.DataFrame
    provenance: dict[str, str]


def load_results(stage) -> Results:
    """Read what stages 01–07 wrote, through ``stage.input`` so that each becomes an input of this stage."""
    data, trained, routed = (stage.input(name) for name in ("01_data", "03_train", "04_router_analysis"))
    scored, exported, timed = (stage.input(name) for name in ("05_benchmarks", "06_quantize_onnx", "07_cpu_latency"))
    return Results(
        history=pd.read_csv(trained / "history.csv"),
        steps=pd.read_csv(trained / "steps.csv"),
        routing_curve=pd.read_csv(routed / "routing_curve.csv"),
        routing_by_label=pd.read_csv(routed / "routing_by_label.csv"),
        scores=pd.read_parquet(scored / "scores.parquet"),
        summary=pd.read_csv(scored / "benchmark_summary.csv"),
        sizes=pd.read_csv(exported / "sizes.csv"),
        latency=pd.read_parquet(timed / "latency.parquet"),
        records=pd.read_parquet(data / "train.parquet", columns=["source", "label"]),
        provenance=stage.provenance(),
    )


def draw_figures(results: Results, budget: float = 0.30) -> dict[str, Figure]:
    """Every figure by file name."""
    guard = results.scores[results.scores["system"] == "guard"]
    pooled = pooled_rows(guard)
    benign = breakdowns.over_defence(guard).rename(columns={"kind": "benchmark"})
    matched = metrics.matched_detection(paired_rows(results.scores))
    return {
        "training_curves": figures.training_curves(results.history, results.steps),
        "routing_over_epochs": figures.routing_over_epochs(results.history, budget),
        "expert_load": figures.expert_load(results.history),
        "routing_curve": figures.routing_curve(results.routing_curve, budget),
        "routing_by_label": figures.routing_by_label(results.routing_by_label, budget),
        "confusion_matrix": figures.confusion_matrix(pooled, system="guard"),
        "detection_per_attack": figures.detection_per_attack(matched[matched["system"] == "guard"]),
        "transform_heatmap": figures.transform_heatmap(matched),
        "over_defence": figures.over_defence(benign),
        "score_distribution": figures.score_distribution(pooled, system="guard"),
        "reliability": figures.reliability(metrics.reliability(pooled)),
        "latency_distribution": figures.latency_distribution(results.latency),
        "latency_by_length": figures.latency_by_length(results.latency),
        "data_composition": figures.data_composition(results.records),
    }


@dataclass(frozen=True, slots=True)
class Tables:
    """The paper's tables as frames of strings."""

    main: pd.DataFrame
    latency: pd.DataFrame
    sizes: pd.DataFrame


def make_tables(results: Results) -> Tables:
    """Table 1 main results, table 2 latency, table 3 sizes and routing."""
    summary = results.summary[results.summary["threshold"] == "default"]
    systems = [name for name in HEADLINE_SYSTEMS if name in set(summary["system"])]
    return Tables(
        main=tables.main_results(summary, systems, accuracy=True),
        latency=tables.latency_table(results.latency, reference="BERT-6"),
        sizes=tables.sizes_and_routing(results.sizes, results.routing_by_label),
    )


def save_all(drawn: dict[str, Figure], made: Tables, results: Results, folder: Path) -> list[Path]:
    """Figures as PDF and PNG into ``folder`` (``stage.figures``), tables as LaTeX into its ``tables/``."""
    saved = [path for name, fig in drawn.items() for path in figures.save_figure(fig, folder, name, results.provenance)]
    captions = {
        "table1_main_results": (made.main, "Detection and false positives in percent, with 95 % intervals."),
        "table2_latency": (made.latency, "From raw string to verdict, one text at a time, on a CPU."),
        "table3_sizes_and_routing": (made.sizes, "Bytes on disk, and who takes the deep branch."),
    }
    for name, (frame, caption) in captions.items():
        saved.append(tables.save_table(frame, folder / "tables", name, results.provenance, caption=caption))
    return saved
