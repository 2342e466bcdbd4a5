from __future__ import annotations

import shutil

import numpy as np
import pandas as pd
import pytest

from guardlib.export import gate
from guardlib.export.onnx import ExportError
from guardlib.export.release import PRECISIONS
from guardlib.runtime.guard import Guard
from guardlib.settings import get_profile
from tests import tiny_guard
from tests.export.test_release import benchmarks


def scored(labels: np.ndarray, flagged: np.ndarray, benchmark: str = "b") -> pd.DataFrame:
    return pd.DataFrame(
        {
            "benchmark": benchmark, "system": "guard", "example_id": [str(i) for i in range(len(labels))],
            "label": labels, "family": "", "variant": "", "score": np.where(flagged, 0.9, 0.1),
            "predicted": flagged.astype(int), "route": "", "seconds": 0.1,
        }
    )  # fmt: skip


LABELS = np.repeat([1, 0], [100, 50])


def test_losses_are_in_points_and_the_largest_comes_first():
    after = LABELS > 0
    after[:2] = False  # two attacks missed
    after[-1] = True  # one false alarm
    changes = gate.metric_changes(scored(LABELS, LABELS > 0), scored(LABELS, after))
    assert changes["loss"].is_monotonic_decreasing
    rows = changes.set_index("metric")
    assert rows["loss"].to_dict() == pytest.approx({"accuracy": 2.0, "tpr": 2.0, "fpr": 2.0})
    assert rows["n"].to_dict() == {"accuracy": 150, "tpr": 100, "fpr": 50}
    assert (rows.loc["tpr", "before"], rows.loc["tpr", "after"]) == (1.0, pytest.approx(0.98))
    assert (rows.loc["fpr", "before"], rows.loc["fpr", "after"]) == (0.0, pytest.approx(0.02))
    assert rows.loc["accuracy", ["worse", "better"]].tolist() == [3, 0]
    assert rows.loc["accuracy", "p"] == pytest.approx(1 / 8)


def test_gains_make_up_for_losses():
    before, after = LABELS > 0, LABELS > 0
    before[0], after[1] = False, False
    changes = gate.metric_changes(scored(LABELS, before), scored(LABELS, after)).set_index("metric")
    assert changes.loc["tpr", ["loss", "worse", "better"]].tolist() == [0, 1, 1]
    assert gate.failures(changes.reset_index(), 0.3).empty


def test_what_chance_explains_passes_and_what_it_does_not_fails():
    changes = pd.DataFrame(
        {
            "benchmark": ["small", "large", "fine"],
            "metric": ["tpr", "fpr", "tpr"],
            "loss": [1.7, 0.9, -1.5],
            "p": [0.5, 0.001, 1.0],
        }
    )
    assert gate.failures(changes, 1.0).empty
    assert gate.failures(changes, 0.5)["benchmark"].tolist() == ["large", "mean of benchmarks"]
    assert gate.failures(changes[:1], 0.3)["benchmark"].tolist() == ["mean of benchmarks"]


def test_one_benchmark_in_twenty_fails_by_chance_and_is_forgiven():
    changes = pd.DataFrame({"benchmark": list("abcdefghijklmnopqrst"), "metric": "accuracy", "loss": 0.0, "p": 0.6})
    changes.loc[0, ["loss", "p"]] = [2.0, 0.03]
    assert gate.failures(changes, 0.3).empty
    changes.loc[0, "p"] = 0.002
    assert gate.failures(changes, 0.3)["benchmark"].tolist() == ["a"]


def test_copies_of_one_text_count_once():
    """Twenty transforms of a text unfold to the same text: that they change together is one change."""
    labels = np.ones(150, int)
    rows = scored(labels, labels > 0).assign(example_id=[f"made/{i}@{i // 15}" for i in range(150)])
    after = rows.assign(predicted=[0] * 15 + [1] * 135)
    tpr = gate.metric_changes(rows, after).set_index("metric").loc["tpr"]
    assert (tpr["loss"], tpr["worse"], tpr["p"]) == (10.0, 15, 0.5)


def test_rows_that_were_not_scored_before_are_named():
    with pytest.raises(ValueError, match="'149' has no row before"):
        gate.metric_changes(scored(LABELS, LABELS > 0)[:-1], scored(LABELS, LABELS > 0))


@pytest.fixture
def folder(tiny, tmp_path):
    return shutil.copytree(tiny.folder, tmp_path / "06")


def test_every_precision_is_compared(tiny, folder):
    before = gate.score_guard(Guard.load(folder / "guard_float32", threads=1), benchmarks(), "guard")
    table = gate.compare_precisions_on_task(folder, benchmarks(), before, tiny.profile).set_index("precision")
    assert table.loc["float32", ["mean_dscore", "changed"]].tolist() == [0, 0]
    assert table["megabytes"].idxmax() == "float32"
    assert (table.loc[["int8", "int8_mixed", "int8_blocks"], "megabytes"] < table.loc["float16", "megabytes"]).all()
    assert (table["mean_dscore"].drop("float32") > 0).all()
    assert (table["p50_ms"] > 0).all()
    assert (folder / "precisions.csv").is_file()
    lost = gate.accuracy_lost(folder)
    assert list(lost.columns) == ["n", *PRECISIONS]
    assert (lost["float32"] == 0).all()
    assert (lost[list(PRECISIONS)].max() <= table["worst_loss"][list(PRECISIONS)] + 1e-9).all()


def test_the_first_that_passes_is_released(tiny, folder):
    before = gate.score_guard(Guard.load(folder / "guard_float32", threads=1), benchmarks(), "guard")
    lenient = get_profile("smoke", {"export.most_lost_points": 100.0})
    released, rows, _ = gate.choose(folder, benchmarks(), before, lenient)
    assert released == Guard.load(folder / "guard", threads=1).settings.precision == "int8"
    assert len(rows) == len(tiny_guard.TEXTS)
    assert pd.read_csv(folder / "gate.csv")["passed"].all()


def test_one_that_loses_is_passed_over(tiny, folder, monkeypatch):
    """Nothing may be lost, and INT8 is made to lose: it stays in a folder of its own."""
    before = gate.score_guard(Guard.load(folder / "guard_float32", threads=1), benchmarks(), "guard")
    score = gate.score_guard

    def wrong(guard, rows, system):
        found = score(guard, rows, system)
        right = (before["predicted"] > 0).astype(int)
        return found.assign(predicted=1 - right if system.startswith("int8") else right)

    monkeypatch.setattr(gate, "score_guard", wrong)
    before["predicted"] = (before["label"] > 0).astype(int)
    released, _, _ = gate.choose(folder, benchmarks(), before, get_profile("smoke", {"export.most_lost_points": 100.0}))
    assert released == "int8"  # 100 points may be lost
    released, _, _ = gate.choose(folder, benchmarks(), before, get_profile("smoke", {"export.most_lost_points": 99.0}))
    assert released == Guard.load(folder / "guard", threads=1).settings.precision
    assert released in ("float16", "float32")
    assert Guard.load(folder / "guard_int8", threads=1).settings.precision == "int8"


def test_an_export_that_changes_verdicts_is_an_error(tiny, folder, monkeypatch):
    """Where even float32 fails there is nothing to release."""
    before = gate.score_guard(Guard.load(folder / "guard_float32", threads=1), benchmarks(), "guard")
    before["predicted"] = (before["label"] > 0).astype(int)
    wrong = before.assign(predicted=1 - before["predicted"])
    monkeypatch.setattr(gate, "score_guard", lambda *arguments: wrong)
    with pytest.raises(
        ExportError, match=r"no precision passes, float32 included: .* points, of at most 0\.3: .*; see .*gate\.csv"
    ):
        gate.choose(folder, benchmarks(), before, get_profile("smoke"))
    assert not pd.read_csv(folder / "gate.csv")["passed"].any()


def test_what_did_not_pass_is_known(tiny, folder, monkeypatch):
    """A precision asked for by name stays in guard/ though it fails; a release asks whether it passed."""
    before = gate.score_guard(Guard.load(folder / "guard_float32", threads=1), benchmarks(), "guard")
    before["predicted"] = (before["label"] > 0).astype(int)
    wrong = before.assign(predicted=1 - before["predicted"])
    monkeypatch.setattr(gate, "score_guard", lambda *arguments: wrong)
    profile = get_profile("smoke", {"export.precision": "int4"})
    monkeypatch.setattr(gate, "guard_folder", lambda *arguments: folder / "guard")
    assert gate.choose(folder, benchmarks(), before, profile)[0] == "int4"
    assert not gate.passed(folder, "int4")
