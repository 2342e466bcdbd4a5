"""What benchmarks measured: kept as files, and printed in the README."""

from __future__ import annotations

import pandas as pd
import pytest

from guardlib.paths import project_root
from guardlib.report.readme import END, START


@pytest.fixture
def record(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(project_root() / "benchmarks")
    import record

    monkeypatch.setattr(record, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(record, "project_root", lambda: tmp_path)
    (tmp_path / "README.md").write_text(f"a\n{START.format('benchmarks')}{END.format('benchmarks')}\nb\n")
    return record


def test_what_is_kept_is_printed_with_its_origin(record, tmp_path):
    record.keep("soak", pd.DataFrame({"texts_per_second": [170], "different": [0]}), "python soak.py")
    record.keep("data_build", pd.DataFrame({"rows": [1, 2]}), "python data_build.py")
    assert pd.read_csv(tmp_path / "results" / "soak.csv").loc[0, ["different", "command"]].tolist() == [
        0,
        "python soak.py",
    ]
    text = (tmp_path / "README.md").read_text()
    assert "| texts per second | different |" in text
    assert text.index("python soak.py") < text.index("python data_build.py")
    assert text.endswith("\nb\n")


def test_the_readme_prints_what_was_kept(monkeypatch):
    monkeypatch.syspath_prepend(project_root() / "benchmarks")
    import record

    assert record.section().strip() in (project_root() / "README.md").read_text(encoding="utf-8")
