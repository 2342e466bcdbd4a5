import json

import pytest

from guardlib.data import corpus
from guardlib.data.corpus import FOLDER, PARTS, corpus_benchmark_frames, corpus_frames, part_files
from guardlib.data.leakage import find_leaks
from guardlib.data.records import SourceError
from guardlib.labels import HARMFUL_REQUEST, RECORD_COLUMNS


def test_every_part_serves_training_and_testing_and_they_share_no_group():
    train, test = corpus_frames(held_out=False), corpus_benchmark_frames()
    assert tuple(train) == tuple(test) == PARTS
    for part in PARTS:
        assert tuple(train[part].columns) == RECORD_COLUMNS
        assert len(train[part]) > len(test[part]) > 10
    groups = [{group for frame in side.values() for group in frame["group"]} for side in (train, test)]
    assert not groups[0] & groups[1]
    held, kept = (
        sum(map(len, frames.values())) for frames in (corpus_benchmark_frames(), corpus_frames(held_out=False))
    )
    assert 0.10 < held / (held + kept) < 0.20


def test_labels_follow_the_part():
    frames = corpus_frames(held_out=False)
    assert set(frames["benign"]["label"]) == set(frames["hard_negatives"]["label"]) == {0}
    assert set(frames["attacks"]["label"]) >= {1, 2}
    assert 0 not in set(frames["attacks"]["label"])
    assert set(frames["goals"]["family"]) == {HARMFUL_REQUEST, "injection_goal"}


def test_the_held_out_part_is_new_text():
    held = corpus_benchmark_frames()["attacks"].assign(benchmark="corpus", example_id="x")
    for frame in corpus_frames(held_out=False).values():
        assert find_leaks(frame, held).empty


def test_what_is_held_out_does_not_depend_on_the_other_lines(tmp_path):
    for part in PARTS:
        lines = [line for path in part_files(FOLDER, part) for line in path.read_text(encoding="utf-8").splitlines()]
        (tmp_path / f"{part}.jsonl").write_text("\n".join(lines[::-1][: len(lines) // 2]), encoding="utf-8")
    half = corpus_benchmark_frames(tmp_path)
    whole = corpus_benchmark_frames()
    for part in PARTS:
        assert set(half[part]["text"]) <= set(whole[part]["text"])


def test_a_part_may_go_on_in_further_files(tmp_path):
    for part in PARTS:
        lines = [line for path in part_files(FOLDER, part) for line in path.read_text(encoding="utf-8").splitlines()]
        for number, line in enumerate(lines[:3], start=1):
            name = part if number == 1 else f"{part}_{number}"
            (tmp_path / f"{name}.jsonl").write_text(line + "\n", encoding="utf-8")
    frames = [corpus_frames(held_out=held, folder=tmp_path) for held in (False, True)]
    assert {part: sum(len(frame[part]) for frame in frames) for part in PARTS} == dict.fromkeys(PARTS, 3)
    (tmp_path / "goals_2.jsonl").write_text(json.dumps({"text": "x", "kind": "harmful"}), encoding="utf-8")
    corpus._read.cache_clear()
    with pytest.raises(SourceError, match=r"goals_2\.jsonl row 1: expected the keys text, kind, category"):
        corpus_frames(held_out=False, folder=tmp_path)


def test_damaged_files_are_named(tmp_path):
    with pytest.raises(SourceError, match=r"attacks\.jsonl"):
        corpus_frames(held_out=False, folder=tmp_path)
    for part in PARTS:
        (tmp_path / f"{part}.jsonl").write_text("", encoding="utf-8")
    (tmp_path / "goals.jsonl").write_text(json.dumps({"text": "x", "kind": "harmful"}), encoding="utf-8")
    with pytest.raises(SourceError, match=r"goals\.jsonl row 1: expected the keys text, kind, category"):
        corpus_frames(held_out=False, folder=tmp_path)
