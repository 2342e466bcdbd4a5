"""Tables: the numbers as printed, and LaTeX that compiles whatever the names are."""

from __future__ import annotations

import io
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardlib.report import tables
from guardlib.training.seeds import spread

from . import examples
from .examples import PROVENANCE


def headline(**changes) -> pd.DataFrame:
    """Two benchmarks (one without attacks) × two systems, as metrics.headline gives them."""
    sides = [f"{n} {m} {m}_low {m}_high" for n, m in (("n", "accuracy"), ("n_pos", "tpr"), ("n_neg", "fpr"))]
    nan = float("nan")
    rows = [
        ("deepset_test", "guard", 116, 0.95, 0.9, 0.98, 60, 0.923, 0.891, 0.948, 56, 0.02, 0.003, 0.09),
        ("deepset_test", "tfidf", 116, 0.75, 0.7, 0.8, 60, 0.5, 0.38, 0.62, 56, 0.0, 0.0, 0.064),
        ("notinject", "guard", 339, 0.93, 0.9, 0.95, 0, nan, nan, nan, 339, 0.07, 0.05, 0.1),
    ]
    frame = pd.DataFrame(rows, columns=["benchmark", "system", *" ".join(sides).split()])
    return frame.assign(**changes)


def sizes() -> pd.DataFrame:
    rows = [("float32", "front.onnx", 40_000_000), ("int8", "front.onnx", 10_250_000), ("int8", "deep.onnx", 5_000_000)]
    return pd.DataFrame(rows, columns=["precision", "file", "bytes"])


def rate_rows() -> pd.DataFrame:
    rows = [
        ("role-play", "guard", 90, 0.1, 0.05, 0.18),
        ("role-play", "tfidf", 80, 0.2, 0.1, 0.3),
        ("x_y", "guard", 5, 0, 0, 0.4),
    ]
    return pd.DataFrame(rows, columns=["kind", "system", "n", "rate", "low", "high"])


def matched() -> pd.DataFrame:
    row = {"benchmark": "flip_attack", "variant": "FCS", "n_pos": 1599, "tpr": 0.9, "tpr_low": 0.8, "tpr_high": 0.95}
    return pd.DataFrame([row | {"n_neg": 40, "fpr": 0.05, "fpr_low": 0.01, "fpr_high": 0.16}])


def by_seed(*accuracies: float) -> pd.DataFrame:
    """Figures by seed as training.seeds gives them, through a file as stage 08 reads them."""
    rows = {}
    for seed, accuracy in enumerate(accuracies):
        label = examples.score_rows(200)["label"]
        predicted = label.where(np.arange(200) < 200 * accuracy, (label == 0).astype(int))
        told = {"benchmark": "test", "system": "guard", "family": "made", "route": "deep"}
        rows[seed] = pd.DataFrame({"label": label, "predicted": predicted, "example_id": range(200)}).assign(**told)
    return pd.read_csv(io.StringIO(spread(rows).to_csv(index=False)))


PRINTED = {
    "matched_detection": tables.matched_detection(matched()),
    "seeds": tables.seeds(by_seed(0.8, 0.9)),
    "rates_by": tables.rates_by(rate_rows(), "kind"),
    "main_results": tables.main_results(headline()),
    "latency_table": tables.latency_table(examples.latency(), "plain_bert"),
    "sizes_and_routing": tables.sizes_and_routing(sizes(), examples.routing_by_label()),
    "composition": tables.composition(examples.records(), [{"name": "source_1", "licence": "mit", "origin": "hub"}]),
    "published": tables.published([{"system": "A&B", "benchmark": "x_y", "value": 8.08, "unit": "%", "source": "#1"}]),
}


def test_rates():
    assert tables.rate(0.923, 0.891, 0.948) == "92.3 [89.1, 94.8]"
    assert tables.rate(1.0) == "100.0"
    assert tables.rate(np.nan, 0.1, 0.2) == "–"


def test_main_results():
    table = tables.main_results(headline())
    assert table.columns.tolist() == ["Benchmark", "Measure", "n", "guard", "TF-IDF"]
    assert table.values.tolist() == [
        ["deepset test", "TPR", "60", "92.3 [89.1, 94.8]", "50.0 [38.0, 62.0]"],
        ["deepset test", "FPR", "56", "2.0 [0.3, 9.0]", "0.0 [0.0, 6.4]"],
        ["notinject", "FPR", "339", "7.0 [5.0, 10.0]", "–"],
    ]
    with_accuracy = tables.main_results(headline(), systems=["guard"], accuracy=True)
    assert with_accuracy["Measure"].tolist() == ["accuracy", "TPR", "FPR", "FPR"]
    assert "TF-IDF" not in with_accuracy


def test_main_results_shows_n_per_cell_where_systems_differ():
    frame = headline(n_pos=[60, 59, 0])
    assert tables.main_results(frame).iloc[0].tolist()[2:] == [
        "–",
        "92.3 [89.1, 94.8] (n 60)",
        "50.0 [38.0, 62.0] (n 59)",
    ]


def test_rates_by_has_a_column_per_system():
    table = PRINTED["rates_by"]
    assert table.columns.tolist() == ["kind", "n", "guard", "TF-IDF"]
    assert table.values.tolist() == [
        ["role-play", "80 to 90", "10.0 [5.0, 18.0]", "20.0 [10.0, 30.0]"],
        ["x y", "5", "0.0 [0.0, 40.0]", "–"],
    ]
    assert tables.rates_by(rate_rows().iloc[:0], "kind").empty, "a benchmark that did not run"
    with pytest.raises(ValueError, match=r"\['role-play', 'guard'\] has two rates"):
        tables.rates_by(pd.concat([rate_rows(), rate_rows()]), "kind")
    with pytest.raises(ValueError, match="not a percentage"):
        tables.rates_by(rate_rows().assign(rate=50), "kind")


def test_texts_are_shown_whole_and_never_as_markup():
    long = "<script>alert(1)</script> " + "word " * 60
    page = tables.shown(pd.DataFrame({"text": [long], "score": [0.123456], "gap": [None]})).to_html()
    assert "&lt;script&gt;" in page
    assert "<script>" not in page
    assert long.rstrip()[-40:] in page
    assert "0.123<" in page


def test_latency_table():
    frame = pd.DataFrame(
        {"system": ["guard"] * 101 + ["BERT-6"], "tokens": 10, "seconds": [*np.arange(1, 102) / 1000, 0.102]}
    )
    table = tables.latency_table(frame, "BERT-6")
    assert table["Tokens"].tolist() == ["1–16", "all"] * 2
    assert table.iloc[0].tolist() == ["guard", "1–16", "101", "51.0", "96.0", "100", "2.00 ×"]
    assert table["Speed-up over plain 6-layer BERT"].tolist()[2:] == ["1.00 ×"] * 2
    assert not any("Speed-up" in title for title in tables.latency_table(frame))


def test_sizes_and_routing():
    table = PRINTED["sizes_and_routing"]
    assert table["Value"].tolist()[:4] == ["40.00 MB", "10.25 MB", "5.00 MB", "15.25 MB"]
    assert table["Value"].tolist()[4] == "21.0 [17.0, 25.0]"
    assert table["n"].tolist()[4] == "1,320"


def test_matched_detection():
    table = PRINTED["matched_detection"]
    assert table.columns.tolist() == ["Transform", "Benchmark", "Caught", "n attacks", "Benign flagged", "n benign"]
    assert table.values.tolist() == [["FCS", "flip attack", "90.0 [80.0, 95.0]", "1,599", "5.0 [1.0, 16.0]", "40"]]


def test_seeds():
    table = PRINTED["seeds"]
    assert table["Seed"].tolist() == ["0", "1", "mean"]
    assert table["Sent deep"].tolist() == ["100.0", "100.0", "100.0 [100.0, 100.0]"]
    assert table["Accuracy"].tolist()[:2] == ["80.0", "90.0"]
    assert table["Accuracy"].iloc[2].startswith("85.0 [")
    assert tables.seeds(by_seed(0.8))["Seed"].tolist() == ["0"]


def test_composition():
    frame = pd.DataFrame({"source": ["b", "a", "a"], "label": [3, 0, 0]})
    table = tables.composition(frame, [{"name": "a", "licence": "mit", "origin": "hub"}])
    assert table["Source"].tolist() == ["a", "b", "all"]
    assert table["benign"].tolist() == ["2", "0", "2"]
    assert table["Total"].tolist() == ["2", "1", "3"]
    assert table["Licence"].tolist() == ["mit", "–", "–"]


def test_published_is_marked():
    table = PRINTED["published"]
    assert table.columns.tolist() == ["System", "Benchmark", "Published", "Source"]
    assert table.iloc[0].tolist() == ["A&B", "x y", "8.08 %", "#1"]
    with pytest.raises(ValueError, match="source is missing"):
        tables.published([{"system": "a", "benchmark": "b", "value": 1}])


def test_published_prints_every_entry_of_the_data_file():
    module = pytest.importorskip("guardlib.evaluation.published")
    figures = module.load_published()
    table = tables.published(figures)
    assert len(table) == len(figures) > 10
    check_latex(tables.to_latex(table, "Published figures", "tab:published", PROVENANCE))


@pytest.mark.parametrize("name", PRINTED)
def test_every_table_renders(name, tmp_path):
    table = PRINTED[name]
    path = tables.save_table(table, tmp_path, name, PROVENANCE, caption="Rates in % & intervals_95 #1 ≥ 3")
    text = path.read_text(encoding="utf-8")
    assert path.name == f"{name}.tex"
    assert text.startswith("% profile laptop · commit abc1234 · data 9f3e12ab…")
    assert r"\caption{Rates in \% \& intervals\_95 \#1 $\geq$ 3}" in text
    assert rf"\label{{tab:{name}}}" in text
    assert all(rule in text for rule in (r"\toprule", r"\midrule", r"\bottomrule"))
    check_latex(text)
    again = tables.save_table(table, tmp_path / "again", name, PROVENANCE, caption="Rates in % & intervals_95 #1 ≥ 3")
    assert again.read_bytes() == path.read_bytes()

    lines = tables.to_markdown(table).splitlines()
    assert len(lines) == len(table) + 2
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {len(table.columns) + 1}


def check_latex(text: str) -> None:
    """Braces and environments balance, every row has as many cells as columns, no special character is bare."""
    body = "\n".join(line for line in text.splitlines() if not line.startswith("%"))
    bare = re.sub(r"\\\\|\\[%&#_${}]", "", body)
    assert bare.count("{") == bare.count("}")
    assert bare.count("$") % 2 == 0
    assert "%" not in bare
    assert "#" not in bare
    assert re.sub(r"\\label\{[^}]*\}", "", bare).count("_") == 0
    assert re.findall(r"\\begin\{(\w+)\}", bare) == re.findall(r"\\end\{(\w+)\}", bare)[::-1]
    columns = len(re.search(r"\\begin\{tabular\}\{([lr]+)\}", body).group(1))
    rows = body[body.index(r"\toprule") : body.index(r"\bottomrule")].split("\\\\\n")[:-1]
    for row in rows:
        assert len(re.findall(r"(?<!\\)&", row)) == columns - 1, row


@settings(max_examples=20, deadline=None)
@given(
    st.lists(
        st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=12), min_size=2, max_size=2
    )
)
def test_any_text_is_escaped(texts):
    table = pd.DataFrame({"A_b": texts, "c&d%": texts[::-1]})
    check_latex(tables.to_latex(table, caption=f"x{texts[0]}"))
    assert len(tables.to_markdown(table).splitlines()) == 4


def test_special_characters_by_name():
    text = tables.to_latex(pd.DataFrame({"a_1": [r"50% of #1 & $5 {x} ~ ^ \n", "a < b | c > d"]}))
    for piece in (
        r"a\_1",
        r"50\% of \#1 \& \$5 \{x\}",
        r"\textasciitilde",
        r"\textasciicircum",
        r"\textbackslash",
        "a $<$ b",
    ):
        assert piece in text


def test_repeated_first_column_is_blanked_and_numbers_are_on_the_right():
    text = tables.to_latex(PRINTED["main_results"])
    assert text.count("deepset test") == 1
    assert "{llrrr}" in text


def test_a_wide_table_gets_smaller_type():
    narrow, wide = pd.DataFrame({"a": ["x"]}), pd.DataFrame({f"c{k}": ["92.3 [89.1, 94.8]"] for k in range(7)})
    assert r"\normalsize" in tables.to_latex(narrow)
    assert r"\tiny" in tables.to_latex(wide) or r"\scriptsize" in tables.to_latex(wide)


def test_ready_latex_is_saved_with_its_provenance(tmp_path):
    path = tables.save_table("\\begin{tabular}{l}x\\end{tabular}", tmp_path, "t", PROVENANCE)
    assert path.read_text(encoding="utf-8").splitlines()[1:] == ["\\begin{tabular}{l}x\\end{tabular}"]


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r"tpr holds 92.3; expected a fraction"):
        tables.main_results(headline(tpr=92.3))
    with pytest.raises(ValueError, match="column fpr_low is missing"):
        tables.main_results(headline().drop(columns="fpr_low"))
    with pytest.raises(ValueError, match=r"no rows of system x; there are guard, tfidf"):
        tables.main_results(headline(), systems=["x"])
    with pytest.raises(ValueError, match="0 rows"):
        tables.main_results(headline().head(0))
    with pytest.raises(ValueError, match="no rows of reference 'x'"):
        tables.latency_table(examples.latency(), "x")
    with pytest.raises(ValueError, match="bytes is missing"):
        tables.sizes_and_routing(sizes().drop(columns="bytes"), examples.routing_by_label())
    with pytest.raises(ValueError, match="0 rows"):
        tables.to_latex(pd.DataFrame({"a": []}))
    with pytest.raises(ValueError, match="0 rows"):
        tables.to_markdown(pd.DataFrame({"a": []}))
    with pytest.raises(ValueError, match="provenance lacks run_id"):
        tables.to_latex(pd.DataFrame({"a": [1]}), provenance={})


@pytest.mark.parametrize(("cell", "rule"), [("92.3 [89.1, 94.8]", "---:"), ("1,097", "---:"), ("01_data", "---")])
def test_numbers_stand_to_the_right_and_names_to_the_left(cell, rule):
    assert tables.to_markdown(pd.DataFrame({"a": ["x"], "b": [cell]})).splitlines()[1] == f"| --- | {rule} |"
