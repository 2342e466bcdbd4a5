"""One contract for every registered figure, then what is special to some of them."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from guardlib.labels import LABEL_NAMES
from guardlib.report import figures
from guardlib.report.figures import FIGURES, save_figure
from guardlib.report.registry import PNG_DPI, check_provenance, provenance_line
from guardlib.report.style import CLASS_COLOURS, LOOKS, fit_columns, looks, shortened

from . import examples
from .examples import FRAMES, PROVENANCE

SYSTEMS = ("guard", "fast", "deep", "tfidf", "plain_bert")
LONG = "a_transform_whose_name_is_far_too_long_for_any_axis_of_a_figure_in_a_paper_with_$_and_%"

EDGE_CASES = {
    "one_validation": ("training_curves", examples.history(1), {}),
    "few_tokens": ("training_curves", examples.history(2).assign(tokens=[12_000, 24_000]), {}),
    "with_steps": ("training_curves", examples.history(), {"steps": examples.steps()}),
    "one_epoch_routing": ("routing_over_epochs", examples.history(1), {}),
    "whole_epochs_repeated": ("routing_over_epochs", examples.history(4).assign(epoch=[1, 1, 2, 2]), {"budget": 0.4}),
    "collapsed": ("routing_over_epochs", examples.history(4).assign(deep_share=0.0, router_std=0.0), {}),
    "all_deep": ("routing_over_epochs", examples.history(4).assign(deep_share=1.0), {}),
    "two_experts_once": ("expert_load", examples.history(1, experts=2), {}),
    "many_validations": ("expert_load", examples.history(40, experts=8), {}),
    "idle_expert": ("expert_load", examples.history(3).assign(expert_load_0=1.0, expert_load_1=0.0), {}),
    "many_layers": ("specialisation", examples.specialisation(3, experts=8), {}),
    "two_experts_one_layer": ("specialisation", examples.specialisation(1, experts=2), {}),
    "routed_at": ("router_scores", examples.router_scores(), {"threshold": 0.8}),
    "one_class_routed": ("router_scores", examples.router_scores().query("label == 0"), {"threshold": 0.8}),
    "many_sources": ("data_composition", examples.records(45), {}),
    "one_source_one_class": ("data_composition", pd.DataFrame({"source": ["corpus"], "label": [0]}), {}),
    "one_class_seen": ("confusion_matrix", pd.DataFrame({"label": [0, 0], "predicted": [0, 2]}), {}),
    "counted_by_name": (
        "confusion_matrix",
        pd.DataFrame(
            [("fast", a, b, 1234567) for a in LABEL_NAMES for b in LABEL_NAMES],
            columns=["system", "label", "predicted", "n"],
        ),
        {"system": "fast"},
    ),
    "many_systems": ("detection_per_attack", examples.detection(SYSTEMS), {}),
    "unknown_systems": ("detection_per_attack", examples.detection(("mine", "another-one")), {}),
    "long_transform": ("detection_per_attack", examples.detection(variants=(LONG, "b")), {}),
    "nothing_caught": (
        "detection_per_attack",
        examples.detection().assign(tpr=0.0, tpr_low=0.0, fpr=1.0, fpr_high=1.0),
        {},
    ),
    "many_transforms": (
        "transform_heatmap",
        examples.detection((*SYSTEMS, "frozen_backbone", "rules"), tuple(f"transform_{n}" for n in range(38))),
        {},
    ),
    "long_heatmap": ("transform_heatmap", examples.detection(variants=(LONG, "b")), {}),
    "many_systems_over": ("over_defence", examples.benign_sets(SYSTEMS), {"target": 0.01}),
    "long_set": ("over_defence", examples.benign_sets().assign(benchmark=LONG, variant=list("abcdefg")), {}),
    "no_mistake": ("over_defence", examples.benign_sets().assign(rate=0.0, low=0.0, high=0.011), {}),
    "only_router": ("routing_curve", examples.routing().query("policy == 'router'"), {"budget": 1.0}),
    "flat_curve": ("routing_curve", examples.routing().assign(accuracy=1.0, low=0.99, high=1.0), {}),
    "by_source": ("routing_by_label", examples.routing_by_label().rename(columns={"label": "source"}), {}),
    "all_sent_deep": ("routing_by_label", examples.routing_by_label().assign(deep_share=1.0, low=0.97, high=1.0), {}),
    "one_class_scores": ("score_distribution", pd.DataFrame({"label": [0], "score": [0.2]}), {"threshold": None}),
    "many_texts": ("score_distribution", examples.score_rows(40_000), {"threshold": 0.873}),
    "many_systems_reliability": ("reliability", examples.reliability(SYSTEMS), {}),
    "one_bin": ("reliability", examples.reliability().head(1).drop(columns="system"), {}),
    "many_systems_latency": ("latency_distribution", examples.latency(SYSTEMS), {}),
    "one_text": ("latency_distribution", examples.latency(("guard",)).head(1), {}),
    "many_systems_by_length": ("latency_by_length", examples.latency(SYSTEMS), {}),
    "one_length": ("cost_by_length", examples.costs().head(1), {}),
    "released_precision": ("precisions", examples.precisions(), {"released": "int8_mixed"}),
    "no_verdict_changed": ("precisions", examples.precisions().head(1), {}),
    "one_logged_step": ("expert_use", examples.distillation_steps(1), {}),
    "two_of_its_experts": ("expert_use", examples.distillation_steps(5, experts=2), {}),
    "capacity_once": ("student_capacity", examples.distillation_steps(1), {}),
    "losses_of_a_student_alone": (
        "distillation_losses",
        examples.distillation_steps()[["step", "raw_lm", "weighted_lm"]],
        {},
    ),
    "one_recipe_one_seed": ("distillation_perplexity", examples.perplexity_curves(("routed",)).query("seed == 0"), {}),
    "one_bucket": ("latency_by_length", examples.latency(("guard",)).query("tokens <= 16"), {}),
}
CASES = {name: (name, frame(), {}) for name, frame in FRAMES.items()} | EDGE_CASES


@pytest.fixture(scope="module", params=CASES, ids=str)
def drawn(request) -> Figure:
    name, frame, settings = CASES[request.param]
    return FIGURES[name].draw(frame, **settings)


def shown_texts(fig: Figure) -> list[Text]:
    """Texts that are drawn: tick labels outside an axis' range exist but are not."""
    outside = set()
    for axis in (axis for ax in fig.axes for axis in (ax.xaxis, ax.yaxis)):
        low, high = sorted(axis.get_view_interval())
        slack = 1e-9 * (high - low)
        for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
            if not low - slack <= tick.get_loc() <= high + slack:
                outside |= {tick.label1, tick.label2}
    return [t for t in fig.findobj(Text) if t.get_visible() and t.get_text().strip() and t not in outside]


def test_every_figure_has_an_example():
    assert set(FRAMES) == set(FIGURES)
    assert all(getattr(figures, name) is spec.draw for name, spec in FIGURES.items())


def test_is_as_wide_as_the_text_block_and_fits_a_page(drawn):
    width, height = drawn.get_size_inches()
    assert isinstance(drawn, Figure)
    assert width == 5.5
    assert 1.0 <= height <= 8.5


def test_every_axis_is_labelled(drawn):
    shared = drawn.get_supylabel()
    for ax in drawn.axes:
        if ax.get_label() == "<colorbar>":
            assert ax.get_ylabel()
            continue
        x_shared = any(other is not ax and other.get_xlabel() for other in ax.get_shared_x_axes().get_siblings(ax))
        y_shared = any(other is not ax and other.get_ylabel() for other in ax.get_shared_y_axes().get_siblings(ax))
        assert ax.get_xlabel() or x_shared, f"{ax} has no x label"
        assert ax.get_ylabel() or shared or y_shared, f"{ax} has no y label"


def test_nothing_is_clipped_and_no_two_texts_overlap(drawn):
    renderer = drawn.canvas.get_renderer()
    page = drawn.bbox
    footer = 0.13 * drawn.dpi
    boxes = [(t.get_text(), t.get_window_extent(renderer)) for t in shown_texts(drawn)]
    assert len(boxes) >= 4
    for text, box in boxes:
        inside = box.x0 >= page.x0 - 0.5 and box.x1 <= page.x1 + 0.5 and box.y1 <= page.y1 + 0.5
        assert inside, f"{text!r} leaves the page: {box}"
        assert box.y0 >= footer - 1, f"{text!r} covers the footer line"
    for (a, first), (b, second) in itertools.combinations(boxes, 2):
        width = min(first.x1, second.x1) - max(first.x0, second.x0)
        height = min(first.y1, second.y1) - max(first.y0, second.y0)
        assert width < 1.5 or height < 1.5, f"{a!r} and {b!r} overlap by {width:.1f} × {height:.1f} pixels"


@pytest.mark.parametrize("name", FIGURES)
def test_same_frame_gives_same_bytes(name, tmp_path):
    first = save_figure(FIGURES[name].draw(FRAMES[name]()), tmp_path / "a", name, PROVENANCE)
    second = save_figure(FIGURES[name].draw(FRAMES[name]()), tmp_path / "b", name, PROVENANCE)
    assert [path.name for path in first] == [f"{name}.pdf", f"{name}.png"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_saving_twice_gives_same_bytes(tmp_path):
    fig = FIGURES["detection_per_attack"].draw(examples.detection(SYSTEMS))
    first, second = (save_figure(fig, tmp_path / folder, "x", PROVENANCE) for folder in "ab")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_same_bytes_in_another_process_with_other_settings(tmp_path):
    """Neither hash randomisation nor the caller's own matplotlib settings may show."""
    code = (
        "import sys, matplotlib, examples as e; from guardlib.report.figures import FIGURES, save_figure\n"
        "matplotlib.rcParams.update({'font.size': 20, 'savefig.bbox': 'tight', 'axes.grid': False})\n"
        "save_figure(FIGURES['latency_by_length'].draw(e.latency()), sys.argv[1], 'x', e.PROVENANCE)\n"
    )
    here = save_figure(FIGURES["latency_by_length"].draw(examples.latency()), tmp_path / "here", "x", PROVENANCE)
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    env = os.environ | {"PYTHONHASHSEED": "123", "PYTHONPATH": path}
    subprocess.run([sys.executable, "-c", code, tmp_path / "there"], check=True, env=env)
    for path in here:
        assert path.read_bytes() == (tmp_path / "there" / path.name).read_bytes()


def test_provenance_is_in_the_files(tmp_path):
    fig = FIGURES["routing_curve"].draw(examples.routing())
    texts = len(fig.texts)
    pdf, png = save_figure(fig, tmp_path, "routing_curve", PROVENANCE)
    with Image.open(png) as image:
        assert image.size == (round(5.5 * PNG_DPI), round(PNG_DPI * fig.get_figheight()))
        assert image.info["commit"] == PROVENANCE["commit"]
        assert image.info["Software"] == "guardlib"
        footer = np.asarray(image.convert("L"))[-int(0.12 * PNG_DPI) :]
    assert footer.min() < 200, "the footer line is not drawn"
    assert b"CreationDate" not in pdf.read_bytes()
    assert b"12ab34cd56ef" in pdf.read_bytes()
    assert b"/Type3" not in pdf.read_bytes()
    assert len(fig.texts) == texts, "saving must leave the figure as it was"


def test_another_run_gives_other_bytes(tmp_path):
    fig = FIGURES["routing_curve"].draw(examples.routing())
    one = save_figure(fig, tmp_path, "one", PROVENANCE)
    two = save_figure(fig, tmp_path, "two", PROVENANCE | {"commit": "0000000"})
    assert all(a.read_bytes() != b.read_bytes() for a, b in zip(one, two, strict=True))


def test_long_footer_is_shrunk_into_the_page(tmp_path):
    fig = FIGURES["routing_curve"].draw(examples.routing())
    long = PROVENANCE | {"profile": "p" * 80, "data": "mirror: " + "many sources, " * 40}
    _, png = save_figure(fig, tmp_path, "x", long)
    with Image.open(png) as image:
        footer = np.asarray(image.convert("L"))[-int(0.12 * PNG_DPI) :]
    assert footer.min() < 200
    assert footer[:, :10].min() == 255
    assert footer[:, -10:].min() == 255


def test_provenance_line():
    line = provenance_line(PROVENANCE | {"data": "mirror:\n41 sources"})
    assert line == "profile laptop · commit abc1234 · data 9f3e12ab… · run 12ab34cd… · mirror: 41 sources"
    assert "· commit abc1234+changes ·" in provenance_line(PROVENANCE | {"commit": "abc1234def56+changes"})
    assert "laptop · no commit · data" in provenance_line(PROVENANCE | {"commit": "no commit"})
    with pytest.raises(ValueError, match="commit, data_hash"):
        check_provenance({"run_id": "1", "profile": "laptop", "data": ""})


@pytest.mark.parametrize("name", ["", "a/b", "../x", ".hidden"])
def test_file_names_are_plain(name, tmp_path):
    with pytest.raises(ValueError, match="plain"):
        save_figure(FIGURES["routing_curve"].draw(examples.routing()), tmp_path, name, PROVENANCE)


def test_unwritable_folder_is_named(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    with pytest.raises(OSError, match=r"cannot write .*file.*x\.pdf"):
        save_figure(FIGURES["routing_curve"].draw(examples.routing()), blocked, "x", PROVENANCE)


@pytest.mark.parametrize("name", FIGURES)
def test_bad_frames_are_refused_by_name(name):
    spec, frame = FIGURES[name], FRAMES[name]()
    with pytest.raises(ValueError, match=rf"{name}: the frame has 0 rows"):
        spec.draw(frame.head(0))
    with pytest.raises(ValueError, match=rf"{name}: got list, expected a pandas DataFrame"):
        spec.draw(frame.to_dict("records"))
    for column in spec.columns:
        with pytest.raises(ValueError, match=rf"{name}: column {column} is missing"):
            spec.draw(frame.drop(columns=column))
        with pytest.raises(ValueError, match=rf"{name}: .*{column}"):
            spec.draw(frame.assign(**{column: None}))
    number = next((c for c in spec.columns if pd.api.types.is_float_dtype(frame[c])), None)
    if number is not None:
        with pytest.raises(ValueError, match=rf"{name}: .*{number}"):
            spec.draw(frame.assign(**{number: "many"}))


def test_incomplete_rows_are_left_out():
    frame = examples.history()
    frame.loc[3, "val_loss"] = np.nan
    fig = figures.training_curves(frame)
    validation = next(line for line in fig.axes[0].lines if line.get_label().startswith("validation"))
    assert len(validation.get_xdata()) == len(frame) - 1


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("training_curves", "val_accuracy_fast"),
        ("routing_over_epochs", "deep_share"),
        ("detection_per_attack", "fpr"),
        ("transform_heatmap", "tpr"),
        ("over_defence", "rate"),
        ("routing_curve", "accuracy"),
        ("routing_by_label", "high"),
        ("score_distribution", "score"),
        ("reliability", "rate"),
        ("expert_load", "expert_load_0"),
        ("expert_use", "expert_use_0"),
        ("student_capacity", "capacity"),
        ("distillation_curriculum", "feature"),
    ],
)
def test_percentages_are_refused(name, column):
    frame = FRAMES[name]()
    with pytest.raises(ValueError, match=r"expected a fraction between 0 and 1, not a percentage"):
        FIGURES[name].draw(frame.assign(**{column: frame[column] * 100 + 2}))


def test_other_bad_values():
    with pytest.raises(ValueError, match=r"guard has a time of 0 s"):
        figures.latency_distribution(examples.latency().assign(seconds=0.0))
    with pytest.raises(ValueError, match="budget is 30"):
        figures.routing_curve(examples.routing(), budget=30)
    with pytest.raises(ValueError, match="label 7 is no class"):
        figures.score_distribution(examples.score_rows().assign(label=7))
    with pytest.raises(ValueError, match=r"2 systems \(deep, guard\); choose one"):
        figures.confusion_matrix(examples.score_rows(50, ("guard", "deep")))
    with pytest.raises(ValueError, match=r"no rows of system 'x'"):
        figures.score_distribution(examples.score_rows(50), system="x")
    with pytest.raises(ValueError, match="expert_load_0"):
        figures.expert_load(pd.DataFrame({"epoch": [1.0]}))
    with pytest.raises(ValueError, match='metric "fpr"'):
        figures.over_defence(examples.benign_sets().assign(metric="tpr"))


def test_the_numbers_drawn_are_the_numbers_given():
    rows = pd.DataFrame({"label": [0, 0, 0, 0, 1, 3], "predicted": [0, 0, 0, 2, 1, 0]})
    cells = {text.get_text() for text in figures.confusion_matrix(rows).axes[0].texts}
    assert {"75.0\n(3)", "25.0\n(1)", "100.0\n(1)", "–"} <= cells

    fig = figures.latency_distribution(pd.DataFrame({"system": "guard", "seconds": np.arange(1, 102) / 1000}))
    assert "P50 51.0, P95 96.0 ms" in fig.legends[0].get_texts()[0].get_text()

    sets = examples.benign_sets().assign(benchmark=["a", "b", "b", "c", "d", "e", "f"], variant=["", "x", "y", *"pqrs"])
    labels = [label.get_text() for label in figures.over_defence(sets).axes[0].get_yticklabels()]
    assert labels[:4] == ["a (n 339)", "b, x (n 339)", "b, y (n 339)", "c (n 339)"]

    heat = figures.transform_heatmap(examples.detection(variants=("a",)).assign(tpr=0.456, fpr=0.03))
    assert [ax.texts[0].get_text() for ax in heat.axes] == ["46", "3"]

    bins = pd.DataFrame({"score": [0.1, 0.8], "rate": [0.2, 0.7], "low": [0.1, 0.6], "high": [0.3, 0.8], "n": [30, 10]})
    legend = figures.reliability(bins).legends[0].get_texts()
    assert legend[1].get_text() == "guard, ECE 10.0 %"


def test_rows_of_benchmarks_are_told_apart_only_where_they_must_be():
    twice = pd.concat(
        [examples.detection(variants=("fwo", "fcw")), examples.detection(variants=("fwo",)).assign(benchmark="b")]
    )
    labels = [t.get_text().split(" (")[0] for t in figures.detection_per_attack(twice).axes[0].get_yticklabels()]
    assert sorted(labels) == ["b, fwo", "fcw", "flip attack, fwo"]


def test_colours_are_fixed_and_distinct():
    assert len(set(CLASS_COLOURS.values())) == len(LABEL_NAMES)
    assert looks(["deep", "guard"])["guard"] == looks(["guard"])["guard"] == LOOKS["guard"]
    assert looks(["guard-int8"])["guard-int8"] == LOOKS["guard_int8"]
    strangers = looks([f"system_{k}" for k in range(15)]).values()
    assert len({(look.colour, look.marker, look.line) for look in strangers}) == 15
    by_look = {}
    for look in LOOKS.values():  # several names may mean one system; two systems may not look alike
        by_look.setdefault((look.colour, look.marker, look.line), set()).add(look.label)
    assert [labels for labels in by_look.values() if len(labels) > 1] == [{"guard", "routed", "router"}]


def test_names_and_legends():
    assert shortened("flip_fwo") == "flip fwo"
    assert shortened("", 10) == "(unnamed)"
    assert shortened(LONG + "_1", 12) != shortened(LONG + "_2", 12)
    assert len(shortened(LONG, 12)) <= 12
    assert fit_columns(["a", "b", "c"], 400) == 3
    assert fit_columns(["a" * 60] * 3, 200) == 1


def test_a_figure_shows_itself_in_a_notebook():
    assert figures.routing_by_label(examples.routing_by_label())._repr_png_().startswith(b"\x89PNG")
