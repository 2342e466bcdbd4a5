"""What came of a run is taken up by the run of the same identity, and by no other."""

from __future__ import annotations

import math
import os

import pytest

from guardlib.distillation.finished import keep, model_digest, recall, text_digest

IDENTITY = {"seed": "0", "text": "abc"}
ROWS = [{"system": "taught", "auroc": 0.1 + 0.2, "n_pos": 3}]


@pytest.fixture
def folder(tmp_path):
    """A finished run's: its log, its rows, and the weights it no longer needs."""
    place = tmp_path / "taught_0"
    (place / "checkpoints").mkdir(parents=True)
    (place / "history.csv").write_text("step\n1\n")
    (place / "checkpoints" / "last.safetensors").write_bytes(b"weights")
    keep(place, IDENTITY, ROWS)
    return place


def test_rows_come_back_as_they_were(folder, capsys):
    assert recall(folder, IDENTITY, True) == ROWS
    assert capsys.readouterr().out == "taught_0 was finished before and is not trained again\n"
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["rows.json"]
    keep(folder, IDENTITY, [{"tpr": math.nan}])
    assert math.isnan(recall(folder, IDENTITY, True)[0]["tpr"])


def test_its_logs_count_as_written_by_the_stage_that_takes_it_up(folder):
    os.utime(folder / "history.csv", (1, 1))
    recall(folder, IDENTITY, True)
    assert (folder / "history.csv").stat().st_mtime > 1


@pytest.mark.parametrize(("identity", "resume"), [(IDENTITY | {"seed": "1"}, True), (IDENTITY, False)])
def test_rows_of_another_run_are_removed(folder, identity, resume):
    """The run that follows writes over the logs: if it is cut short in its turn, they belong to no row."""
    assert recall(folder, identity, resume) is None
    assert recall(folder, IDENTITY, True) is None


@pytest.mark.parametrize("text", ["", '{"identity": {"se', "[]", "{}"])
def test_a_damaged_file_is_no_row(folder, text):
    (folder / "checkpoints" / "rows.json").write_text(text)
    assert recall(folder, IDENTITY, True) is None


def test_nothing_there_is_no_row(tmp_path):
    assert recall(tmp_path / "nowhere", IDENTITY, True) is None


def test_digests_tell_weights_and_texts_apart(student, teacher, pieces):
    before = model_digest(student.model)
    assert model_digest(student.model) == before
    student.model.lm_head.weight.data[0, 0] += 1
    assert model_digest(student.model) != before
    assert model_digest(student.model, teacher.model) != model_digest(teacher.model, student.model)
    swapped = pieces.pieces[1], pieces.pieces[0], *pieces.pieces[2:]
    assert text_digest(type(pieces)(swapped)) != text_digest(pieces)
