"""The README's results section: replaced between its markers, and nowhere else."""

from __future__ import annotations

import pytest

from guardlib.paths import project_root, stage_folder
from guardlib.report.readme import END, START, TRACES, keep_traces, main, update
from guardlib.report.results import Run, results_folder


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
    assert readme.read_text().endswith(table.format("1.8", "9.9"))  # 09 runs apart from the others


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
        Run.read("smoke", tmp_path)
    monkeypatch.setenv("GUARDLIB_HOME", str(tmp_path))
    assert main(["--profile", "smoke"]) == 1
    assert "01_data has no manifest" in capsys.readouterr().err


def test_the_files_behind_the_tables_are_kept(tmp_path):
    for stage, name in TRACES:
        folder = stage_folder("smoke", stage, tmp_path)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"file,rate\n{name},0.10\n")
    summary = stage_folder("smoke", "05_benchmarks", tmp_path) / "benchmark_summary.csv"
    summary.write_text("file,rate,state,why_not\nbenchmark_summary.csv,0.10,ran,\n,,not run,not in /home/me/mirror\n")
    keep_traces(results_folder("smoke", tmp_path), "smoke", root=tmp_path)
    kept = {path.name: path.read_text() for path in results_folder("smoke", tmp_path).iterdir()}
    assert kept.pop("benchmark_summary.csv") == "file,rate,state,why_not\nbenchmark_summary.csv,0.10,ran,\n"
    assert kept == {name: f"file,rate\n{name},0.10\n" for _, name in TRACES if name in kept}
    assert len(kept) == len(TRACES) - 1


@pytest.mark.parametrize("name", ["laptop", "release", "distillation"])
def test_the_readme_has_a_place_for_each_result(name):
    text = (project_root() / "README.md").read_text(encoding="utf-8")
    assert (text.count(START.format(name)), text.count(END.format(name))) == (1, 1)
