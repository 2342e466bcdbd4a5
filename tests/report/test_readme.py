"""The README's results section: replaced between its markers, and nowhere else."""

from __future__ import annotations

from types import SimpleNamespace

import pandas as pd
import pytest

from guardlib.config import PROFILES
from guardlib.distillation.evaluation import summarise
from guardlib.paths import STAGES, project_root, stage_folder
from guardlib.report.provenance import of_one_run
from guardlib.report.readme import (
    END,
    START,
    TRACES,
    appendix_section,
    cost_at_a_glance,
    detection_at_a_glance,
    folded,
    keep_traces,
    main,
    origin,
    results_section,
    size_table,
    traces,
    update,
)
from guardlib.settings import get_profile


def block(profile, section=""):
    return f"{START.format(profile)}{section}{END.format(profile)}"


def test_update_replaces_only_between_the_markers_of_its_profile(tmp_path):
    readme = tmp_path / "README.md"
    other = block("release", "\nothers' 1.2\n")
    readme.write_text(f"before\n{block('laptop', 'old 12.3')}\nbetween\n{other}\nafter\n")
    update(readme, "laptop", "new 45.6\n")
    text = readme.read_text()
    assert text.startswith("before\n")
    assert text.endswith(f"\nbetween\n{other}\nafter\n")
    assert "new 45.6" in text
    assert "old 12.3" not in text
    update(readme, "laptop", "new 45.6\n")
    assert readme.read_text() == text  # writing the same section twice changes nothing


def test_update_fills_the_minutes_of_each_notebook(tmp_path):
    readme = tmp_path / "README.md"
    table = "| Notebook | Purpose | Minutes |\n| [01_data](n.ipynb) | splits | {} |\n| [02_dry](n) | y | {} |"
    readme.write_text(f"{block('laptop')}\n" + table.format("–", "9.9"))
    update(readme, "laptop", "section")
    assert readme.read_text().endswith(table.format("–", "9.9"))
    update(readme, "laptop", "section", {"01_data": 1.84})
    assert readme.read_text().endswith(table.format("1.8", "–"))  # of a stage that did not run nothing is claimed


@pytest.mark.parametrize(
    "text", ["no markers", f"{START.format('smoke')} only one", block("smoke") * 2, block("laptop")]
)
def test_a_readme_without_the_profiles_markers_is_refused(tmp_path, text):
    readme = tmp_path / "README.md"
    readme.write_text(text)
    with pytest.raises(ValueError, match=r"results of smoke: start --> and .* once each"):
        update(readme, "smoke", "section")
    assert readme.read_text() == text


def test_an_unfinished_run_is_refused_with_the_command(tmp_path, monkeypatch, capsys):
    with pytest.raises(FileNotFoundError, match=r"01_data has no manifest; run: python run_all.py --profile smoke"):
        results_section("smoke", tmp_path)
    monkeypatch.setenv("GUARDLIB_HOME", str(tmp_path))
    assert main(["--profile", "smoke"]) == 1
    assert "01_data has no manifest" in capsys.readouterr().err


def test_stages_that_read_others_are_no_run():
    data, trained = (SimpleNamespace(digest=name, inputs={}) for name in ("new", "t"))
    trained.inputs["01_data"] = "old"
    assert (
        of_one_run({"01_data": data, "03_train": trained}) == "03_train read another 01_data than the one that is there"
    )
    trained.inputs["01_data"] = "new"
    assert not of_one_run({"01_data": data, "03_train": trained})


def test_the_files_behind_the_tables_are_kept(tmp_path):
    for stage, name in TRACES:
        folder = stage_folder("smoke", stage, tmp_path)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"file,rate\n{name},0.10\n")
    summary = stage_folder("smoke", "05_benchmarks", tmp_path) / "benchmark_summary.csv"
    summary.write_text("file,rate,state,why_not\nbenchmark_summary.csv,0.10,ran,\n,,not run,not in /home/me/mirror\n")
    keep_traces("smoke", tmp_path)
    kept = {path.name: path.read_text() for path in traces("smoke", tmp_path).iterdir()}
    assert kept.pop("benchmark_summary.csv") == "file,rate,state,why_not\nbenchmark_summary.csv,0.10,ran,\n"
    assert kept == {name: f"file,rate\n{name},0.10\n" for _, name in TRACES if name in kept}
    assert len(kept) == len(TRACES) - 1


def test_sizes_are_those_of_all_files():
    sizes = pd.DataFrame(
        {"precision": ["int8", "int8"], "bytes": [1_500_000, 2_500_000], "theory_bytes": [1_000_000, None]}
    )
    assert size_table(sizes).iloc[0].tolist() == ["int8", "1.0 MB", "4.0 MB"]


def test_the_glance_prints_what_is_caught_beside_what_is_flagged_and_leaves_out_what_did_not_run():
    rates = {f"{m}{end}": value for m in ("tpr", "fpr") for end, value in (("", 0.25), ("_low", 0.2), ("_high", 0.3))}
    bipia = {"benchmark": "bipia", "system": "guard", "n_pos": 4000, "n_neg": 167} | rates
    notinject = bipia | {"benchmark": "notinject", "n_pos": 0, "n_neg": 339, "tpr": float("nan")}
    rules = notinject | {"system": "rules", "fpr": 0.5}
    printed = detection_at_a_glance(pd.DataFrame([bipia, notinject, rules]), ["guard", "rules"])
    assert printed["Benchmark"].tolist() == ["notinject", "bipia"]
    assert printed["n"].tolist() == ["– / 339", "4,000 / 167"]
    assert printed["guard: caught"].tolist() == ["–", "25.0 [20.0, 30.0]"]
    assert printed["guard: benign flagged"].tolist() == ["25.0 [20.0, 30.0]"] * 2
    assert printed["rules: benign flagged"].tolist() == ["50.0 [20.0, 30.0]", "–"]
    assert printed["Aim"].tolist() == ["– / ≤ 8", "≥ 85 / ≤ 5"]


LATENCY = ["system", "tokens", "seconds"]


def test_cost_is_of_all_lengths_together_and_ratios_are_of_medians():
    seconds = {"guard": [0.001, 0.002, 0.100], "BERT-6": [0.006, 0.007, 0.008]}  # means would say the opposite
    latency = pd.DataFrame([(name, 8, s) for name in seconds for s in seconds[name]], columns=LATENCY)
    latency.loc[latency["seconds"] == 0.1, "tokens"] = 300
    headline = {"texts_per_second": 431.6, "cold_start_seconds": 0.46, "resident_mb": 148.9}
    table = cost_at_a_glance(latency, 27.64, headline).set_index("Cost")
    printed = table["Measured"]
    assert printed.iloc[0] == "2.0 ms"
    assert printed.iloc[1] == "90.2 ms"
    assert printed.iloc[2] == "3.5 ×"
    assert printed.loc["on disk"] == "27.6 MB"
    assert printed.loc["throughput, the best of 1, 2, 4… processes or threads"] == "432 texts/s"
    assert table["Aim"].iloc[2] == "≥ 1.5 ×"


def test_a_folded_table_is_still_a_table():
    text = folded("Title", "| a |\n| --- |\n| 1 |\n")
    assert text.startswith("<details>\n<summary>Title</summary>\n\n| a |")  # without the empty line it is no Markdown
    assert text.endswith("| 1 |\n\n</details>")


@pytest.mark.parametrize(
    ("commits", "said"),
    [
        (["aaa"] * 8, "commit `aaa`, seed 0"),
        (["aaa", *["bbb"] * 7], "commit `aaa` (01), `bbb` (02, 03, 04, 05, 06, 07, 08)"),
    ],
)
def test_stages_of_different_commits_are_told_apart(commits, said):
    machine = {"cpu": "A", "cores": 2, "memory": 2**30}
    shared = {"machine": machine, "seconds": 60.0, "seed": 0, "notes": "none"}
    shared["profile"] = PROFILES["laptop"].to_dict()
    manifests = {stage: SimpleNamespace(commit=commit, **shared) for stage, commit in zip(STAGES, commits, strict=True)}
    assert said in origin("laptop", manifests)
    manifests["03_train"].profile = get_profile("laptop", {"training.epochs": 1, "seed": 3}).to_dict()
    assert origin("laptop", manifests).startswith("Profile `laptop` with `seed=3`, `training.epochs=1`, commit")


def test_what_the_appendix_found_is_printed_with_its_intervals(tmp_path, monkeypatch):
    folder = stage_folder("laptop", "09_distillation", tmp_path)
    folder.mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match="--only 09"):
        appendix_section("laptop", tmp_path)
    machine = {"cpu": "a CPU", "cores": 2}
    manifest = SimpleNamespace(
        commit="abc", seed=0, seconds=600, machine=machine, headline={"teacher_perplexity": 31.26}
    )
    monkeypatch.setattr("guardlib.report.readme.read_manifest", lambda _: manifest)
    runs = pd.DataFrame(
        {"recipe": ["plain_kd", "routed"] * 3, "seed": [0, 0, 1, 1, 2, 2], "perplexity": [9, 8, 10, 8.5, 9, 8]}
    )
    summarise(runs).to_csv(folder / "summary.csv", index=False)
    (folder / "verdict.txt").write_text("The routed student beats plain_kd.\n")
    sizes = {"model": ["teacher", "student"], "parameters_ratio": [1, 4.0], "ms_per_sequence_ratio": [1, 2.5]}
    pd.DataFrame(sizes).to_csv(folder / "sizes.csv", index=False)
    effect = {"benchmark": ["all", "x"], "metric": "auroc", "seeds": 3, "alone": 0.8, "taught": 0.83}
    pd.DataFrame(effect | {"difference": 0.03, "low": 0.01, "high": 0.05}).to_csv(
        folder / "guard_effect.csv", index=False
    )
    section = appendix_section("laptop", tmp_path)
    for words in (
        "commit `abc`",
        "31.3",
        "1/4.0",
        "2.5 times",
        "beats plain_kd.",
        "| AUROC",
        "80.0",
        "83.0",
        "3.0 [1.0, 5.0]",
    ):
        assert words in section
    assert "| plain kd | 3 | 9.33 [7.90, 10.77] | +1.17 [+0.45, +1.88] |" in section
    assert "| routed | 3 | 8.17 [7.45, 8.88] | – |" in section


@pytest.mark.parametrize("name", ["laptop", "release", "distillation"])
def test_the_readme_has_a_place_for_each_result(name):
    text = (project_root() / "README.md").read_text(encoding="utf-8")
    assert (text.count(START.format(name)), text.count(END.format(name))) == (1, 1)
