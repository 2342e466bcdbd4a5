"""The notebooks' contract, and the whole workbook from end to end."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest

from guardlib.export.publish import CARD, ReleaseError, publish
from guardlib.paths import APPENDIX, STAGES
from guardlib.report import tables
from guardlib.report.results import Run, breakdown_tables, comparison_table, in_full, in_short
from guardlib.report.style import readable
from guardlib.runtime.guard import Guard
from guardlib.settings import get_profile

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
PARAMETERS = {"profile": "laptop", "data": "", "settings": {}}
MAX_LINES = 8

every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def code_cells(path: Path) -> list:
    """A notebook's code cells."""
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def set_up_cells(path: Path) -> list[str]:
    """Install, parameters and set-up cell, the stage's name replaced."""
    return [cell.source.replace(path.stem, "NN_stage") for cell in code_cells(path)[:3]]


def test_the_stages_are_there():
    """Exactly the stages of guardlib.paths, the appendix too; a missing one is a failure, never a skip."""
    assert [path.stem for path in NOTEBOOKS if path.stem < "09"] == list(STAGES[:8])
    assert [path.stem for path in NOTEBOOKS if path.stem >= "09"] == list(APPENDIX)


@every_notebook
def test_valid_and_without_outputs(path):
    """Committed as source: no outputs, no counts, no attachments of a run."""
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    for cell in code_cells(path):
        assert cell.outputs == []
        assert cell.execution_count is None
    assert "papermill" not in notebook.metadata
    assert "widgets" not in notebook.metadata


@every_notebook
def test_title_and_claim_come_first(path):
    """A heading that has the stage's number, then one paragraph that says what the notebook shows."""
    first = nbformat.read(path, as_version=4).cells[0]
    assert first.cell_type == "markdown"
    title, _, claim = first.source.partition("\n\n")
    assert re.match(rf"# {path.stem[:2]}\b", title), title
    assert len(claim.split()) >= 15


@every_notebook
def test_cells_are_thin(path):
    """No def, class or lambda; at most eight lines; plain Python."""
    for cell in code_cells(path):
        assert 0 < len(cell.source.splitlines()) <= MAX_LINES, cell.source
        for node in ast.walk(ast.parse(cell.source)):
            kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda
            assert not isinstance(node, kinds), cell.source


@every_notebook
def test_parameters_are_literals(path):
    """One cell tagged ``parameters``, the same everywhere, with literals only."""
    tagged = [cell for cell in code_cells(path) if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) == 1
    values = {}
    for statement in ast.parse(tagged[0].source).body:
        assert isinstance(statement, ast.Assign), ast.unparse(statement)
        values[statement.targets[0].id] = ast.literal_eval(statement.value)
    assert values == PARAMETERS


@every_notebook
def test_install_and_set_up_are_the_same_everywhere(path):
    """One guarded install line, the parameters, one set-up call that names this very stage."""
    install, parameters, set_up = set_up_cells(path)
    assert [install, parameters, set_up] == set_up_cells(NOTEBOOKS[0])
    assert 'find_spec, ("guardlib", "papermill")' in install
    assert "check=True" in install
    assert 'open_stage("NN_stage", profile=profile, data=data, settings=settings)' in set_up


@every_notebook
def test_last_cell_finishes_the_stage(path):
    """The manifest is the last thing a notebook writes, and it writes it once."""
    sources = [cell.source for cell in code_cells(path)]
    assert ast.unparse(ast.parse(sources[-1]).body[-1]).startswith("stage.finish(")
    assert sum("stage.finish(" in source for source in sources) == 1


@every_notebook
def test_inputs_are_earlier_stages(path):
    """Data flows one way."""
    for cell in code_cells(path):
        for name in re.findall(r'stage\.input\("([^"]+)"\)', cell.source):
            assert name in STAGES
            assert name < path.stem


@pytest.mark.slow
def test_the_whole_workbook(tmp_path):
    """``run_all.py --all`` in the profile smoke ends with a manifest each; then everything is up to date in seconds."""
    environment = dict(os.environ) | {"GUARDLIB_HOME": str(tmp_path)}
    environment.pop("GUARDLIB_NOTEBOOKS", None)
    command = [sys.executable, str(ROOT / "run_all.py"), "--all", "--profile", "smoke"]
    command += ["-p", "data.licences=permissive"]
    first = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1800)
    assert first.returncode == 0, first.stdout[-6000:] + first.stderr[-6000:]
    manifests = sorted((tmp_path / "artifacts" / "smoke").glob("*/manifest.json"))
    assert [path.parent.name for path in manifests] == [*STAGES, *APPENDIX]
    notes = {json.loads(path.read_text())["notes"] for path in manifests}
    assert len(notes) == 1, notes  # every stage says where the data came from
    assert notes != {"no data"}
    began = time.monotonic()
    second = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert second.returncode == 0, second.stderr
    assert second.stdout.count("up to date") == 2 * 9  # a progress line and a table row each
    assert time.monotonic() - began < 60
    check_results(tmp_path)
    check_release(tmp_path)


def check_results(root: Path) -> None:
    """The finished run as Markdown: every benchmark that ran, with the released guard's own rate."""
    run = Run.read("smoke", root)
    full = in_full(run, root)
    assert len(run.released_summary) > 10
    for row in run.released_summary.itertuples():
        assert f"| {readable(row.benchmark)} |" in full
    flagged = run.released_summary.set_index("benchmark").loc["over_defence", ["fpr", "fpr_low", "fpr_high"]]
    assert tables.rate(*flagged) in in_short(run, root)
    assert all(len(table) for table in run.derived().values())
    for title, table in breakdown_tables(run).items():
        assert f"## {title}" in full
        assert not table.iloc[:, :2].isin(["tpr", "fpr"]).any(axis=None)
    assert len(comparison_table(run)) == len(run.results["comparisons"]) > 0


def check_release(root: Path) -> None:
    """The finished run's guard as a release: it loads and answers, and its card has sources and figures."""
    profile = get_profile("smoke", {"data.licences": "permissive"})
    target = publish(profile, root, root / "release")
    assert Guard.load(target, threads=1).scan("hello").route in ("fast", "deep")
    card = (target / CARD).read_text(encoding="utf-8")
    for words in ("corpus_attacks", "corpus_goals", "Apache-2.0", "95 %"):
        assert words in card
    data = root / "artifacts" / "smoke" / "01_data" / "manifest.json"
    manifest = json.loads(data.read_text(encoding="utf-8"))
    manifest["profile"]["data"]["licences"] = "all"  # what the run was, and not what is said of it now, counts
    data.write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(ReleaseError, match=r"01_data ran with data\.licences=all"):
        publish(profile, root, target)
    (root / "artifacts" / "smoke" / "07_cpu_latency" / "manifest.json").unlink()
    with pytest.raises(ReleaseError, match="07_cpu_latency has no manifest"):
        publish(profile, root, target)
    assert (target / CARD).read_text(encoding="utf-8") == card  # the older release stays
