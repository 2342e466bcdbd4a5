from __future__ import annotations

import pytest

from guardlib.evaluation.published import PUBLISHED_COLUMNS, load_published


def test_every_figure_has_a_source_and_a_sane_value():
    table = load_published()
    assert tuple(table.columns) == PUBLISHED_COLUMNS
    assert (table[["system", "benchmark", "metric", "source"]].map(str.strip) != "").all(axis=None)
    assert set(table["unit"]) == {"%", "ms", ""}
    assert table.loc[table["unit"] == "%", "value"].between(0, 100).all()
    assert table.loc[table["unit"] == "", "value"].between(0, 1).all()
    assert not table.duplicated(["system", "benchmark", "metric"]).any()


def test_one_benchmark():
    table = load_published("notinject").set_index("system")
    assert table.loc["PIGuard (InjecGuard)", "value"] == 87.32
    assert "2410.22770" in table.loc["PIGuard (InjecGuard)", "source"]
    with pytest.raises(ValueError, match=r"no published figure for 'nothing'; there are figures for .*notinject"):
        load_published("nothing")
