"""What notebook 09 found."""

from __future__ import annotations

from types import SimpleNamespace

import pandas as pd
import pytest

from guardlib.distillation.evaluation import summarise
from guardlib.paths import stage_folder
from guardlib.report.appendix import appendix_section
from guardlib.settings import get_profile


def test_what_the_appendix_found_is_printed_with_its_intervals(tmp_path, monkeypatch):
    folder = stage_folder("laptop", "09_distillation", tmp_path)
    folder.mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match="--only 09"):
        appendix_section("laptop", tmp_path)
    machine = {"cpu": "a CPU", "cores": 2}
    manifest = SimpleNamespace(
        profile=get_profile("laptop", {"distillation.max_steps": 7}).to_dict(),
        commit="abc",
        seed=0,
        seconds=600,
        machine=machine,
        headline={"teacher_perplexity": 31.26},
    )
    monkeypatch.setattr("guardlib.report.appendix.read_manifest", lambda _: manifest)
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
        "Profile `laptop` with `distillation.max_steps=7`, commit `abc`",
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
