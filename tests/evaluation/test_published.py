from __future__ import annotations

from guardlib.evaluation.published import PUBLISHED_COLUMNS, load_published


def test_every_figure_has_a_source_and_a_sane_value():
    table = load_published()
    assert tuple(table.columns) == PUBLISHED_COLUMNS
    assert (table[["system", "benchmark", "metric", "source"]].map(str.strip) != "").all(axis=None)
    assert set(table["unit"]) == {"%", "ms", ""}
    assert table.loc[table["unit"] == "%", "value"].between(0, 100).all()
    assert table.loc[table["unit"] == "", "value"].between(0, 1).all()
    assert not table.duplicated(["system", "benchmark", "metric"]).any()


def test_a_figure_by_hand():
    table = load_published().query("benchmark == 'notinject'").set_index("system")
    assert table.loc["PIGuard (InjecGuard)", "value"] == 87.32
    assert "2410.22770" in table.loc["PIGuard (InjecGuard)", "source"]
