"""A finished run as Markdown."""

from __future__ import annotations

from types import SimpleNamespace

import pandas as pd
import pytest

from guardlib.config import PROFILES
from guardlib.paths import STAGES
from guardlib.report.provenance import of_one_run
from guardlib.report.results import Run, origin, size_table
from guardlib.settings import get_profile


def test_sizes_are_those_of_all_files():
    sizes = pd.DataFrame(
        {"precision": ["int8", "int8"], "bytes": [1_500_000, 2_500_000], "theory_bytes": [1_000_000, None]}
    )
    assert size_table(sizes).iloc[0].tolist() == ["int8", "1.0 MB", "4.0 MB"]


def test_stages_that_read_others_are_no_run():
    data, trained = (SimpleNamespace(digest=name, inputs={}) for name in ("new", "t"))
    trained.inputs["01_data"] = "old"
    assert (
        of_one_run({"01_data": data, "03_train": trained}) == "03_train read another 01_data than the one that is there"
    )
    trained.inputs["01_data"] = "new"
    assert not of_one_run({"01_data": data, "03_train": trained})


@pytest.mark.parametrize(
    ("commits", "said"),
    [
        (["aaa"] * 8, "commit `aaa`, seed 0"),
        (["aaa", *["bbb"] * 7], "commit `aaa` (01), `bbb` (02, 03, 04, 05, 06, 07, 08)"),
    ],
)
def test_stages_of_different_commits_are_told_apart(commits, said, tmp_path):
    machine = {"cpu": "A", "cores": 2, "memory": 2**30}
    shared = {"machine": machine, "seconds": 60.0, "seed": 0, "notes": "none"}
    shared["profile"] = PROFILES["laptop"].to_dict()
    manifests = {stage: SimpleNamespace(commit=commit, **shared) for stage, commit in zip(STAGES, commits, strict=True)}
    (tmp_path / "history.csv").write_text("tokens\n1000\n2500000\n")
    run = Run("laptop", {"03_train": tmp_path}, manifests)
    assert said in origin(run)
    assert "trained on 2.5 million tokens" in origin(run)
    manifests["03_train"].profile = get_profile("laptop", {"training.epochs": 1, "seed": 3}).to_dict()
    assert origin(run).startswith("Profile `laptop` with `seed=3`, `training.epochs=1`, commit")
