"""``python -m guardlib.distillation``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from guardlib.data.loading import why_no_hub
from guardlib.distillation.__main__ import main
from guardlib.distillation.pair import save_language_model


@pytest.fixture
def command(teacher, student, texts, tmp_path):
    for model in (teacher, student):
        save_language_model(model, tmp_path / model.name)
    (tmp_path / "text.txt").write_text("\n\n".join(texts[:60]), encoding="utf-8")
    return [
        "--teacher", str(tmp_path / "teacher"), "--student", str(tmp_path / "student"), "--precision", "float32",
        "--text", str(tmp_path / "text.txt"), "--output", str(tmp_path / "out"), "--max-length", "24",
    ]  # fmt: skip


def test_distils_any_pair(command, tmp_path, capsys):
    assert main([*command, "--batch-size", "2", "--epochs", "3", "--max-steps", "4", "--evaluate-every", "2"]) == 0
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert set(results) == {"teacher", "student", "retention", "coverage", "sizes"}
    assert (tmp_path / "out" / "student" / "model.safetensors").is_file()
    out = capsys.readouterr().out
    assert "student layers learn from teacher layers 0, 1" in out
    assert "step 4/4 (100%)" in out


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--max-length", "4000"], "reads at most 64; lower max_length"),
        (["--layer-map", "9,9"], "layer map '9,9' does not fit"),
        (["--text", "nowhere.jsonl"], "nowhere.jsonl"),
        (["--teacher", "nowhere/at-all"], "model 'nowhere/at-all' is no folder, and "),
        (["--batch-size", "0"], "--batch-size is 0; expected at least 1"),
        (["--max-steps", "0"], "--max-steps is 0; expected at least 1"),
        (["--alpha", "1.5"], "--alpha is 1.5; expected a share between 0 and 1"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(command, capsys, monkeypatch, more, words):
    why_no_hub.cache_clear()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert main([*command, *more]) == 2
    error = capsys.readouterr().err
    lines = [line for line in error.splitlines() if line.strip() and "it/s]" not in line]  # but for bars of loading
    assert len(lines) == 1
    assert words in lines[0]


def test_two_processes_make_the_steps_of_one_with_twice_the_batches(command, tmp_path, capsys):
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    shared = [*command, "--batch-size", "2", "--max-steps", "6", "--evaluate-every", "3"]
    environment = {"CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(Path(__file__).parents[2])}
    two = [*launcher, "-m", "guardlib.distillation", *shared, "--output", str(tmp_path / "two")]
    with subprocess.Popen(two, env=os.environ | environment, stderr=subprocess.PIPE, text=True) as launched:
        assert main([*shared, "--accumulate", "2"]) == 0
        _, error = launched.communicate(timeout=120)
    assert launched.returncode == 0, error
    alone, together = (json.loads((tmp_path / name / "results.json").read_text()) for name in ("out", "two"))
    assert together["student"]["perplexity"] == pytest.approx(alone["student"]["perplexity"], rel=5e-3)


def test_a_dense_teacher_has_no_experts_to_route_over(command, tmp_path, capsys):
    assert main([*command, "--teacher", str(tmp_path / "student")]) == 2
    assert "has none in the layers that are learnt from (0, 1); expected recipe 'unrouted'" in capsys.readouterr().err


def test_no_text_is_an_error(command, tmp_path, capsys):
    (tmp_path / "text.txt").write_text("\n\n \n\n")
    assert main(command) == 2
    assert "hold 0 texts" in capsys.readouterr().err
