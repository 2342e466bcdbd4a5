from __future__ import annotations

import json

import pandas as pd
import pytest

from guardlib.evaluation.prompts import PromptFileError, read_prompts


def _write(path, rows: list[dict]):
    if path.suffix == ".csv":
        pd.DataFrame(rows).to_csv(path, index=False)
    elif path.suffix == ".parquet":
        pd.DataFrame(rows).to_parquet(path)
    elif path.suffix == ".jsonl":
        path.write_text("\n".join(json.dumps(row) for row in rows))
    else:
        path.write_text(json.dumps(rows))  # JSON is YAML
    return path


@pytest.mark.parametrize("ending", [".csv", ".json", ".jsonl", ".yaml", ".parquet"])
def test_every_format_gives_the_same_rows(tmp_path, ending):
    rows = [
        {"prompt": "hello", "label": "benign", "category": "chat"},
        {"prompt": "x", "label": "jailbreak", "category": "y"},
    ]
    read = read_prompts(_write(tmp_path / f"mine{ending}", rows), labelled=True)
    assert read["text"].tolist() == ["hello", "x"]
    assert read["label"].tolist() == [0, 2]
    assert read["family"].tolist() == ["chat", "y"]


@pytest.mark.parametrize(("ending", "content"), [(".txt", "\n \n"), (".csv", "text,label\n"), (".jsonl", "")])
def test_a_file_without_prompts_is_named(tmp_path, ending, content):
    path = tmp_path / f"mine{ending}"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(PromptFileError, match=f"mine{ending} holds no prompts; expected at least one"):
        read_prompts(path)


def test_text_files_have_one_prompt_a_line_and_no_label(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_text("one\n\n  \ntwo\n", encoding="utf-8")
    read = read_prompts(path)
    assert read["text"].tolist() == ["one", "two"]
    assert read["label"].tolist() == [-1, -1]


def test_labels_may_be_flags(tmp_path):
    rows = [{"text": f"t{n}", "label": value} for n, value in enumerate([True, 0, "1", "injection", "safe"])]
    assert read_prompts(_write(tmp_path / "mine.json", rows))["label"].tolist() == [1, 0, 1, 1, 0]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"question": "a", "label": 1}], r"column\(s\) text missing; expected text, label, found question, label"),
        ([{"text": "a"}], r"column\(s\) label missing"),
        ([{"text": "a", "label": 1}, {"text": "b", "label": None}], "row 1: label is missing"),
        ([{"text": "a", "label": "perhaps"}], "row 0: label is 'perhaps'; expected 0, 1"),
        ([{"text": "a", "label": 1, "id": "x"}, {"text": "b", "label": 1, "id": "x"}], "row 1: id 'x' appears twice"),
        ([{"text": " ", "label": 1}], "row 0: text is empty"),
        ([{"text": 7, "label": 1}], "row 0: text is int"),
    ],
)
def test_bad_rows_are_named(tmp_path, rows, message):
    with pytest.raises(PromptFileError, match=message):
        read_prompts(_write(tmp_path / "mine.json", rows), labelled=True)


def test_bad_files_are_named(tmp_path):
    with pytest.raises(PromptFileError, match=r"gone\.csv cannot be read"):
        read_prompts(tmp_path / "gone.csv")
    with pytest.raises(PromptFileError, match=r"ending '\.doc' is not known; expected one of \.txt"):
        read_prompts(tmp_path / "mine.doc")
    for name, content in (
        ("a.json", "{"),
        ("b.yaml", "- [unclosed"),
        ("c.json", '{"text": "a"}'),
        ("d.parquet", "PAR1"),
    ):
        (tmp_path / name).write_text(content)
        with pytest.raises(PromptFileError, match=f"{name} cannot be read"):
            read_prompts(tmp_path / name)
