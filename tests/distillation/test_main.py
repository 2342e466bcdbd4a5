"""``python -m guardlib.distillation``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from guardlib.data.loading import why_no_hub
from guardlib.distillation import __main__ as command_line
from guardlib.distillation.__main__ import main, read_texts, split_files, stage_texts
from guardlib.distillation.errors import PairError
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
    assert set(results) == {"teacher", "student", "retention", "coverage", "sizes", "expert_use"}
    assert all({"experts_per_token", "collapsed", "expert", "share"} < row.keys() for row in results["expert_use"])
    assert (tmp_path / "out" / "student" / "model.safetensors").is_file()
    said = capsys.readouterr()
    assert "student layers learn from teacher layers 0, 1" in said.out
    assert "step 4/4 (100%)" in said.err  # beside the progress bar


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
        (["--learning-rate", "-1"], "--learning-rate is -1.0; expected a number above 0"),
        (["--temperature", "nan"], "--temperature is nan; expected a number above 0"),
        (["--precision", "float16"], "--precision is 'float16'; expected one of auto, float32, bfloat16"),
        (["--text", "a.csv", "b.csv"], "a.csv ends in '.csv'; expected one of .txt, .jsonl, .parquet"),
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
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(two, env=os.environ | environment, **pipes) as launched:
        assert main([*shared, "--accumulate", "2"]) == 0
        said, error = launched.communicate(timeout=120)
    assert launched.returncode == 0, error
    assert said.count("2 processes; a step is of 4 sequences") == 1  # by the first, not by both
    assert main([*shared, "--output", str(tmp_path / "half")]) == 0
    alone, together, half = (
        load_file(tmp_path / name / "student" / "model.safetensors") for name in ("out", "two", "half")
    )
    moved = [max(float((run[name] - alone[name]).abs().max()) for name in alone) for run in (together, half)]
    assert moved[0] < moved[1] / 20, moved  # steps of half the batches end elsewhere


def test_a_student_keeps_its_own_dtype(command, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "student", dtype=torch.bfloat16)
    model.save_pretrained(tmp_path / "student")
    assert main([*command, "--max-steps", "2"]) == 0
    weights = load_file(tmp_path / "out" / "student" / "model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.bfloat16}


def test_accelerate_launches_it(command, tmp_path):
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "1", "-m"]
    environment = {"CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(Path(__file__).parents[2])}
    whole = [*launcher, "guardlib.distillation", *command, "--max-steps", "2"]
    done = subprocess.run(whole, env=os.environ | environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "student" / "model.safetensors").is_file()


def test_a_dense_teacher_has_no_experts_to_route_over(command, tmp_path, capsys):
    assert main([*command, "--teacher", str(tmp_path / "student")]) == 2
    assert "has none in the layers that are learnt from (0, 1); expected recipe 'unrouted'" in capsys.readouterr().err


def test_no_text_is_an_error(command, tmp_path, capsys):
    (tmp_path / "text.txt").write_text("\n\n \n\n")
    assert main(command) == 2
    assert "text.txt: 0 texts; expected at least 3" in capsys.readouterr().err


def test_results_are_of_text_that_neither_taught_nor_chose(command, monkeypatch):
    given, measured = [], []
    original = command_line.perplexity
    monkeypatch.setattr(command_line, "distil", lambda *a: given.extend(a[1:3]))
    monkeypatch.setattr(command_line, "perplexity", lambda *a: measured.append(a[1]) or original(*a))
    assert main([*command, "--recipe", "plain_kd"]) == 0
    seen = {piece.student.tobytes() for part in given for piece in part.pieces}
    assert len(measured) == 2  # teacher and student
    assert not any(piece.student.tobytes() in seen for part in measured for piece in part.pieces)


def test_files_are_split_three_ways(tmp_path):
    (tmp_path / "long.txt").write_text("\n\n".join(map(str, range(100))))
    texts = split_files([tmp_path / "long.txt"])
    assert [len(part) for part in texts] == [90, 5, 5]
    assert [*texts.train, *texts.validation, *texts.test] == [str(n) for n in range(100)]
    (tmp_path / "one.txt").write_text("a text\nof two lines")
    with pytest.raises(PairError, match=r"one\.txt: 1 texts; expected at least 3, .* a blank line divides the texts"):
        split_files([tmp_path / "one.txt"])
    assert [len(part) for part in split_files([tmp_path / "one.txt"] * 3)] == [1, 1, 1]


def test_an_ending_is_read_in_any_case(tmp_path):
    (tmp_path / "rows.JSONL").write_text('{"text": "a"}\n{"text": "b"}\n')
    pd.DataFrame({"text": ["c"]}).to_parquet(tmp_path / "rows.Parquet")
    assert read_texts(tmp_path / "rows.JSONL") + read_texts(tmp_path / "rows.Parquet") == ["a", "b", "c"]


def test_the_stages_own_splits_are_kept_apart(home):
    """They have no near copies of each other; a tenth of the rows cut off at the end would."""
    folder = home / "artifacts" / "smoke" / "01_data"
    folder.mkdir(parents=True)
    with pytest.raises(PairError, match=r"train\.parquet does not exist; .* --profile smoke --only 01"):
        stage_texts("smoke")
    for split in ("train", "validation", "test"):
        pd.DataFrame({"text": [split], "source": "read", "lang": "en"}).to_parquet(folder / f"{split}.parquet")
    assert stage_texts("smoke") == (["train"], ["validation"], ["test"])


def test_output_lies_where_input_is_looked_for(home, monkeypatch):
    monkeypatch.chdir(home / "notebooks")
    options = command_line._parser().parse_args(["--teacher", "any"])
    assert options.output == home / "artifacts" / "distillation"


def test_a_finished_run_is_evaluated_again_and_another_is_refused(command, capsys):
    """What to do is said in this command's options."""
    assert main([*command, "--max-steps", "2"]) == 0
    assert main([*command, "--max-steps", "2"]) == 0
    assert "resuming at step 2 of 2" in capsys.readouterr().out
    assert main([*command, "--max-steps", "2", "--alpha", "0.4"]) == 2
    error = capsys.readouterr().err
    assert "was written with settings.alpha = 0.5, this run has 0.4;" in error
    assert "pass --no-resume" in error
    assert main([*command, "--max-steps", "2", "--alpha", "0.4", "--no-resume"]) == 0
