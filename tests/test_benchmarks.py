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
    monkeypatch.setattr(record, "README", tmp_path / "README.md")
    monkeypatch.setattr("sys.argv", ["benchmarks/soak.py", "--guard", "/home/me/guard", "--texts", "5", "--keep"])
    (tmp_path / "README.md").write_text(f"a\n{START.format('benchmarks')}{END.format('benchmarks')}\nb\n")
    return record


def test_what_is_kept_is_printed_with_its_origin(record, tmp_path):
    record.keep("data_build", pd.DataFrame({"rows": [1, 2]}))
    record.keep("soak", pd.DataFrame({"texts_per_second": [170], "different": [0]}))
    kept = pd.read_csv(tmp_path / "results" / "soak.csv")
    assert kept.loc[0, ["different", "command"]].tolist() == [0, "python benchmarks/soak.py --guard PATH --texts 5"]
    text = (tmp_path / "README.md").read_text()
    assert text.index("| texts per second | different |") < text.index("| rows |")  # in the order of TITLES
    assert "/home/me" not in text
    assert text.endswith("\nb\n")


def test_the_readme_prints_what_was_kept(monkeypatch):
    monkeypatch.syspath_prepend(project_root() / "benchmarks")
    import record

    text = (project_root() / "README.md").read_text(encoding="utf-8")
    block = text.split(START.format("benchmarks"))[1].split(END.format("benchmarks"))[0]
    assert block.strip() == record.section().strip() != ""
