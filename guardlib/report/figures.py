"""Every figure of the paper, and how to save one::

fig = figures.training_curves(pandas.read_csv(folder / "history.csv"))
figures.save_figure(fig, figures_folder("laptop"), "training_curves", provenance)
"""

from guardlib.report.distillation_figures import (
    distillation_curriculum,
    distillation_losses,
    distillation_perplexity,
    expert_use,
    student_capacity,
)
from guardlib.report.evaluation_figures import (
    confusion_matrix,
    detection_per_attack,
    over_defence,
    reliability,
    score_distribution,
    transform_heatmap,
)
from guardlib.report.latency_figures import cost_by_length, latency_by_length, latency_distribution, precisions
from guardlib.report.registry import FIGURES, FigureSpec, save_figure
from guardlib.report.routing_figures import (
    expert_load,
    router_scores,
    routing_by_label,
    routing_curve,
    routing_over_epochs,
    specialisation,
)
from guardlib.report.training_figures import data_composition, training_curves

__all__ = [
    "FIGURES",
    "FigureSpec",
    "confusion_matrix",
    "cost_by_length",
    "data_composition",
    "detection_per_attack",
    "distillation_curriculum",
    "distillation_losses",
    "distillation_perplexity",
    "expert_load",
    "expert_use",
    "latency_by_length",
    "latency_distribution",
    "over_defence",
    "precisions",
    "reliability",
    "router_scores",
    "routing_by_label",
    "routing_curve",
    "routing_over_epochs",
    "save_figure",
    "score_distribution",
    "specialisation",
    "student_capacity",
    "training_curves",
    "transform_heatmap",
]
