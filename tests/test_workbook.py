"""open_stage / Stage.finish, manifests, and the rule that says what must run again; no kernels here."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest

from guardlib import fingerprint, workbook
from guardlib.config import ConfigError
from guardlib.freshness import stage_state
from guardlib.report import provenance
from guardlib.report.provenance import ManifestError, read_manifest
from guardlib.runtime import guard
from guardlib.settings import get_profile
from guardlib.workbook import StageError, data_notes, find_mirror, open_stage
from tests.notebook_files import write_notebook

SOURCES = [
    {"name": "deepset", "origin": "mirror", "used": True, "rows": 1500},
    {"name": "corpus_attacks", "origin": "built-in", "used": True, "rows": 40},
    {"name": "wildguardmix", "origin": "hub", "used": False, "rows": 0},
]


def run(stage: str, *inputs: str, text: str = "result", settings: dict | None = None) -> workbook.Stage:
    """A whole stage by hand, as a notebook would do it."""
    opened = open_stage(stage, profile="smoke", settings=settings)
    for name in inputs:
        opened.input(name)
    (opened.folder / "result.txt").write_text(text)
    if stage == "01_data":
        (opened.folder / "sources.json").write_text(json.dumps(SOURCES))
    opened.finish(headline={"answer": 42})
    return opened


def state_of(stage: str, home, settings: dict | None = None, mirror=None):
    return stage_state(stage, get_profile("smoke", settings), mirror, home)


def test_manifest_says_everything(home, capsys):
    """Inputs and outputs with hashes, headline, profile, seed, versions, machine, commit, seconds, data origin."""
    run("01_data")
    trained = run("03_train", "01_data")
    manifest = read_manifest(trained.folder)
    assert manifest.stage == "03_train"
    assert manifest.inputs == {"01_data": read_manifest(home / "artifacts/smoke/01_data").digest}
    assert manifest.outputs["result.txt"]["bytes"] == len("result")
    assert manifest.headline == {"answer": 42}
    assert manifest.profile == get_profile("smoke").to_dict()
    assert manifest.versions["numpy"] == np.__version__
    assert manifest.machine["cores"] >= 1
    assert manifest.seconds > 0
    assert manifest.notes == "mirror: 1 sources, 1,500 rows; built-in corpus: 1 sources, 40 rows"
    assert manifest.data_hash == read_manifest(home / "artifacts/smoke/01_data").data_hash != ""
    assert set(trained.provenance()) >= {"run_id", "commit", "profile", "data_hash", "data"}
    printed = capsys.readouterr().out
    assert "03_train, profile smoke, seed 0, commit" in printed
    assert "numpy" in printed


def test_outputs_leave_out_checkpoints_and_copies(home):
    """Checkpoints and the executed notebook are no results; figures in the profile's folder are."""
    stage = open_stage("03_train", profile="smoke")
    (stage.checkpoints / "step_1.safetensors").write_text("x")
    (stage.folder / "notebook.ipynb").write_text("{}")
    (stage.figures / "tables").mkdir()
    (stage.figures / "tables" / "one.tex").write_text("y")
    table = stage.finish()
    assert set(table["file"]) == {"profile.json", "/figures/smoke/tables/one.tex"}
    assert (stage.checkpoints / "step_1.safetensors").exists()
    (stage.figures / "tables" / "one.tex").unlink()
    assert state_of("03_train", home).why == "output gone or changed: /figures/smoke/tables/one.tex"


def test_figures_that_another_wrote_are_no_outputs(home):
    """Only a stage that asks for the figures folder has outputs there, and only what changed since it asked."""
    folder = home / "figures" / "smoke"
    folder.mkdir(parents=True)
    (folder / "old.pdf").write_text("before")
    training, drawing = open_stage("03_train", profile="smoke"), open_stage("08_paper_figures", profile="smoke")
    for stage in (training, drawing):
        (stage.folder / "result.txt").write_text("x")
    (folder / "pulled.pdf").write_text("by somebody else, while both run")
    (drawing.figures / "drawn.pdf").write_text("y")
    assert set(training.finish()["file"]) == {"profile.json", "result.txt"}
    assert set(drawing.finish()["file"]) == {"profile.json", "result.txt", "/figures/smoke/drawn.pdf"}


def test_asking_where_to_write_takes_the_sign_of_success_away(home):
    """An interrupted stage is not done, and its checkpoints are still there."""
    stage = run("03_train")
    (stage.checkpoints / "last.json").write_text("{}")
    opened = open_stage("03_train", profile="smoke")
    assert state_of("03_train", home).kind == "fresh"  # who only looks at the first cells loses nothing
    assert read_manifest(opened.folder) is None
    assert state_of("03_train", home).kind == "missing"
    assert state_of("03_train", home).why == "was interrupted"
    assert (opened.checkpoints / "last.json").exists()
    with pytest.raises(StageError, match="wrote nothing"):
        opened.finish()


def test_how_to_train_makes_no_dataset_stale(home):
    run("01_data")
    assert (
        state_of("01_data", home, {"training.epochs": 9, "model.dropout": 0.3, "training.wandb": "x"}).kind == "fresh"
    )
    assert state_of("01_data", home, {"data.hard_negatives": 9}).kind == "stale"


def test_an_input_made_from_another_dataset_is_said(home, capsys):
    run("01_data")
    run("03_train", "01_data")
    open_stage("05_benchmarks", profile="smoke").input("03_train")
    assert "note:" not in capsys.readouterr().out
    run("01_data", text="other")
    open_stage("05_benchmarks", profile="smoke").input("03_train")
    assert "note: 03_train was made from another 01_data than the one that is there now; run" in capsys.readouterr().out


def test_leftovers_of_an_older_run_are_no_outputs(home, capsys):
    """A file that this run did not write is not vouched for, and not deleted."""
    stage = open_stage("03_train", profile="smoke")
    (stage.folder / "old.txt").write_text("old")
    stage.finish()
    stage = run("03_train")
    assert "old.txt" not in read_manifest(stage.folder).outputs
    assert (stage.folder / "old.txt").exists()
    assert "left out, since this run did not write them: old.txt" in capsys.readouterr().out
    os.utime(stage.folder / "old.txt", (1, 1))
    stage = run("03_train")  # and not by the next one either, which finds no word of it in the last manifest
    assert "old.txt" not in read_manifest(stage.folder).outputs


def test_missing_and_changed_inputs(home):
    """One line that names the stage, the place and the command."""
    stage = open_stage("03_train", profile="smoke")
    command = "run: python run_all.py --profile smoke --only 01"
    with pytest.raises(StageError, match=f"03_train needs 01_data, which has no manifest at .*; {command}"):
        stage.input("01_data")
    run("01_data")
    (home / "artifacts/smoke/01_data/result.txt").write_text("RESULT")
    with pytest.raises(StageError, match=r"whose result\.txt is not what it wrote; run: python run_all\.py"):
        stage.input("01_data")
    with pytest.raises(StageError, match="reads '99_x'; expected one of 01_data"):
        stage.input("99_x")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "cannot be read as a manifest"),
        ("[]", "is not a manifest"),
        ('{"format": 1}', r"is damaged \(field 'stage'\)"),
        ("\x00\xff", "cannot be read as a manifest"),
    ],
)
def test_corrupt_manifest_is_stale_and_named(home, content, words):
    """Truncated or foreign JSON never counts as success."""
    stage = run("01_data")
    (stage.folder / "manifest.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(ManifestError, match=words):
        read_manifest(stage.folder)
    state = state_of("01_data", home)
    assert state.kind == "stale"
    assert str(stage.folder / "manifest.json") in state.why
    with pytest.raises(StageError, match=r"run: python run_all\.py --profile smoke --only 01 --force"):
        open_stage("03_train", profile="smoke").input("01_data")


def test_manifest_with_a_wrong_field_is_damaged(home):
    """Each field's type is checked, outputs down to their hashes."""
    stage = run("01_data")
    path = stage.folder / "manifest.json"
    good = json.loads(path.read_text())
    for field, value in (("seed", "0"), ("outputs", {"a": {}}), ("inputs", []), ("surprise", 1)):
        path.write_text(json.dumps(good | {field: value}))
        with pytest.raises(ManifestError, match=f"field '{field}'"):
            read_manifest(stage.folder)


def test_headline_values_are_plain(home):
    """numpy scalars become numbers, NaN becomes null; arrays are refused before anything is written."""
    stage = open_stage("01_data", profile="smoke")
    (stage.folder / "a").write_text("a")
    with pytest.raises(StageError, match="headline 'scores' is"):
        stage.finish(headline={"scores": [1, 2]})
    assert read_manifest(stage.folder) is None
    stage.finish(headline={"rate": np.float32(0.5), "n": np.int64(3), "none": float("nan")})
    assert read_manifest(stage.folder).headline == {"rate": 0.5, "n": 3, "none": None}


def test_full_disk_is_one_line_and_no_manifest(home, monkeypatch):
    """ENOSPC while the manifest is written."""
    stage = open_stage("01_data", profile="smoke")
    (stage.folder / "a").write_text("a")

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(provenance.os, "fsync", full)
    with pytest.raises(StageError, match="is full; free some space"):
        stage.finish()
    assert [path.name for path in stage.folder.iterdir() if "manifest" in path.name] == []


def test_bad_arguments(home, monkeypatch):
    """Unknown profile, setting, stage, mirror, folder."""
    with pytest.raises(ConfigError, match="profile 'x' does not exist"):
        open_stage("01_data", profile="x")
    with pytest.raises(ConfigError, match=r"'training\.epoch' does not exist"):
        open_stage("01_data", profile="smoke", settings={"training.epoch": 1})
    with pytest.raises(StageError, match="stage '10_x' does not exist"):
        open_stage("10_x", profile="smoke")
    monkeypatch.setenv("GUARDLIB_DATA", "/no/such/mirror")
    with pytest.raises(StageError, match="GUARDLIB_DATA is '/no/such/mirror', which is no folder"):
        open_stage("01_data", profile="smoke")
    monkeypatch.delenv("GUARDLIB_DATA")
    (home / "artifacts").write_text("in the way")
    with pytest.raises(StageError, match="cannot be written"):
        open_stage("01_data", profile="smoke")


def test_mirror_is_explicit_then_environment(home, monkeypatch):
    """data= wins over GUARDLIB_DATA; a relative one also counts from the project's root."""
    for name in ("a", "b"):
        (home / name).mkdir()
    assert find_mirror() is None
    monkeypatch.setenv("GUARDLIB_DATA", "b")
    assert find_mirror() == home / "b"
    assert find_mirror(str(home / "a")) == home / "a"
    assert open_stage("01_data", profile="smoke").mirror == home / "b"


def test_data_notes():
    """One line; "only" where the built-in corpus stands alone."""
    assert data_notes([SOURCES[1]]) == "built-in corpus only: 1 sources, 40 rows"
    assert data_notes([SOURCES[2]]) == "no data"
    own = {"name": "mine", "origin": "file", "used": True, "rows": 7}
    assert data_notes([SOURCES[1], own]) == "own files: 1 sources, 7 rows; built-in corpus: 1 sources, 40 rows"


def test_fresh_until_something_changes(home):
    """Notebook code, settings, mirror and upstream results count; markdown, comments and parameters cells do not."""
    write_notebook(home, "01_data", "mirror = stage.mirror")
    write_notebook(home, "03_train", 'stage.input("01_data")')
    run("01_data")
    assert state_of("01_data", home).why == ""  # the notebook reads the mirror, there is none, and so it is
    run("03_train", "01_data")
    assert state_of("03_train", home).kind == "fresh"
    write_notebook(home, "03_train", '# a comment\nstage.input( "01_data" )', parameters='profile = "smoke"')
    assert state_of("03_train", home).kind == "fresh"
    assert state_of("03_train", home, {"training.epochs": 9}).why == "settings changed: training.epochs"
    for key, value in (
        ("distillation.alpha", 0.1),
        ("export.precision", "int4"),
        ("evaluation.hub_guards", ["deepset"]),
    ):
        assert state_of("03_train", home, {key: value}).kind == "fresh"  # settings of later stages
    mirror = home / "mirror"
    mirror.mkdir()
    assert state_of("01_data", home, mirror=mirror).why == "data changed"
    assert state_of("03_train", home, mirror=mirror).kind == "fresh"  # it does not read it
    run("01_data", text="result")
    assert state_of("03_train", home).kind == "fresh"  # the same result again
    run("01_data", text="other")
    assert state_of("03_train", home).why == "inputs changed: 01_data"
    write_notebook(home, "03_train", 'stage.input("01_data")', "1 + 1")
    assert state_of("03_train", home).why == "notebook changed; inputs changed: 01_data"


def test_inputs_read_inside_the_package_count(home):
    """A notebook that hands its stage to a function does not name its inputs; the manifest remembers them."""
    write_notebook(home, "08_paper_figures", "load_results(stage)")
    run("01_data")
    run("08_paper_figures", "01_data")
    assert state_of("08_paper_figures", home).kind == "fresh"
    run("01_data", text="other")
    assert state_of("08_paper_figures", home).why == "inputs changed: 01_data"
    write_notebook(home, "08_paper_figures", "1 + 1")
    run("08_paper_figures")
    assert state_of("08_paper_figures", home).kind == "fresh"  # the input is forgotten with the code that read it


def test_same_run_same_id(home):
    """A run made twice has one name, so that figures that carry it have the same bytes."""
    assert run("01_data").run_id == run("01_data").run_id != run("01_data", settings={"seed": 1}).run_id


def test_closure_follows_imports(tmp_path):
    """Direct, relative, lazy and package imports count, with data files; unrelated modules do not."""
    package = tmp_path / "pkg"
    files = {
        "__init__.py": "def __getattr__(name):\n    from pkg.runtime import Guard\n    return Guard\n",
        "runtime.py": "Guard = 1",
        "a/__init__.py": "",
        "a/one.py": "from . import two\nfrom ..b import three as t",
        "a/two.py": "def f():\n    import pkg.c",
        "a/corpus/rows.jsonl": "{}",
        "b/__init__.py": "from pkg.b.three import x",
        "b/three.py": "x = 1",
        "c.py": "",
        "unrelated.py": "",
    }
    for name, text in files.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(text)
    found = set(fingerprint.import_closure(["pkg.a.one", "numpy"], package))
    assert found == {f"pkg/{name}" for name in files} - {"pkg/runtime.py", "pkg/unrelated.py"}
    assert "pkg/runtime.py" in fingerprint.import_closure(["pkg", "pkg.Guard"], package)


def test_code_digest_sees_code_only():
    """Layout, comments and docstrings leave a model trained; code does not."""
    base = fingerprint.code_digest('def f(x):\n    """Doc."""\n    return x + 1\n')
    assert base == fingerprint.code_digest("# why\ndef f( x ):\n    return x+1")
    assert base != fingerprint.code_digest("def f(x):\n    return x + 2")
    assert fingerprint.code_digest("%magic") != fingerprint.code_digest("%magic ")


def test_data_digest_sees_names_sizes_and_times(tmp_path):
    """Adding, growing or touching a file changes it; the mirror's own place does not."""
    file = tmp_path / "owner" / "rows.csv"
    file.parent.mkdir()
    file.write_text("a")
    os.utime(file, (1, 1))
    first = fingerprint.data_digest(tmp_path)
    os.utime(file, (2, 2))
    second = fingerprint.data_digest(tmp_path)
    (tmp_path / "owner" / "more.csv").write_text("")
    assert len({first, second, fingerprint.data_digest(tmp_path), fingerprint.data_digest(None)}) == 4


def test_data_digest_sees_a_users_own_files(tmp_path):
    own = tmp_path / "mine.csv"
    digests = {fingerprint.data_digest(None), fingerprint.data_digest(None, [str(own)])}
    own.write_text("text,label\n")
    digests.add(fingerprint.data_digest(None, [str(own)]))
    own.write_text("text,label\nhello,0\n")
    digests.add(fingerprint.data_digest(None, [str(own)]))
    assert len(digests) == 4


def test_importing_guardlib_is_light():
    """Neither torch nor pandas comes with the package itself."""
    import subprocess
    import sys

    code = "import sys, guardlib; print(guardlib.__version__, {'torch', 'pandas', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split(maxsplit=1)[1].strip() == "set()"


def test_the_released_guard_is_no_code(monkeypatch):
    """Publishing a guard must not make the runs it came from out of date."""
    assert Path(guard.__file__).parent / "release" == fingerprint.RELEASE
    corpus = fingerprint.PACKAGE / "data" / "corpus"
    assert "guardlib/data/corpus/goals.jsonl" in fingerprint.import_closure(["guardlib.data.corpus"])
    monkeypatch.setattr(fingerprint, "RELEASE", corpus)
    assert "guardlib/data/corpus/goals.jsonl" not in fingerprint.import_closure(["guardlib.data.corpus"])


def test_an_appendix_depends_on_its_own_settings(home):
    """Notebook 09 runs again for a setting of its own; the others do not (see above)."""
    write_notebook(home, "09_distillation")
    run("09_distillation")
    assert state_of("09_distillation", home).kind == "fresh"
    assert state_of("09_distillation", home, {"distillation.alpha": 0.1}).why == "settings changed: distillation.alpha"
