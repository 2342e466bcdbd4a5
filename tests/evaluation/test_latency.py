from __future__ import annotations

import dataclasses
import json

import pandas as pd
import pytest

from guardlib.config import ConfigError
from guardlib.evaluation import cost, latency, throughput
from guardlib.evaluation.reference_models import SHAPES, ReferenceModel, Shape, reference_model
from guardlib.evaluation.timings import percentiles
from guardlib.runtime.guard import Guard
from tests import tiny_guard


@pytest.fixture(scope="module")
def tiny() -> tiny_guard.Tiny:
    return tiny_guard.build()


@pytest.fixture(scope="module")
def guard(tiny) -> Guard:
    return Guard.load(tiny.folder / "guard", threads=1)


@pytest.fixture(scope="module")
def reference(tiny, tmp_path_factory) -> ReferenceModel:
    return reference_model(Shape("bert", 2, 48, 4, 96), tmp_path_factory.mktemp("reference"), tiny.profile)


@pytest.fixture(scope="module")
def texts() -> pd.DataFrame:
    return pd.DataFrame({"text_id": [str(i) for i in range(len(tiny_guard.TEXTS))], "text": list(tiny_guard.TEXTS)})


class Slow:
    """A system that takes as long as it is told to."""

    def __init__(self, clock: list[float], seconds: float) -> None:
        self.clock, self.seconds, self.seen = clock, seconds, []

    def scan(self, text):
        self.seen.append(text)
        self.clock[0] += self.seconds
        return 0


def test_every_system_text_and_repeat_has_a_row(guard, reference, texts):
    rows = latency.measure({"guard": guard, "BERT-6": reference}, texts, repeats=2)
    assert len(rows) == 2 * 2 * len(texts)
    assert not rows.duplicated(["system", "text_id", "repeat"]).any()
    assert (rows["seconds"] > 0).all()
    assert set(rows.loc[rows["system"] == "guard", "route"]) == {"fast", "deep"}
    assert set(rows.loc[rows["system"] == "BERT-6", "route"]) == {""}
    per_text = rows.groupby("text_id")[["tokens", "characters"]].nunique()
    assert (per_text == 1).all(axis=None)  # both systems fall into the same length bucket
    assert rows.loc[rows["text_id"] == "2", "characters"].eq(0).all()
    assert list(rows.columns) == ["system", "text_id", "tokens", "characters", "route", "repeat", "seconds"]


def test_systems_take_turns_of_a_few_texts(guard, texts):
    """A burst of load on the machine must not fall on one system alone, nor one system on another's caches."""
    many = pd.concat([texts.assign(text_id=texts["text_id"] + f" {n}") for n in range(12)], ignore_index=True)
    other = Slow([0.0], 1.0)
    rows = latency.measure({"guard": guard, "other": other}, many, repeats=2)
    turns = [(part["system"].iloc[0], part["text_id"].tolist()) for _, part in
             rows.groupby((rows["system"] != rows["system"].shift()).cumsum())]  # fmt: skip
    assert len(turns) > 4
    seen = {name: [text for system, part in turns if system == name for text in part] for name in ("guard", "other")}
    assert seen["guard"] == seen["other"]  # the same texts in the same order
    assert sorted(seen["guard"]) == sorted([*many["text_id"]] * 2)
    assert len(other.seen) > 2 * len(many) + 8  # each turn begins with texts that are not timed
    begins = rows["system"].to_numpy().reshape(-1, 2 * latency._TURN)[:, 0]
    assert set(begins) == {"guard", "other"}  # neither is always first


def test_seconds_are_the_clock_s(guard, texts, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(latency.time, "perf_counter", lambda: clock[0])
    rows = latency.measure({"guard": guard, "slow": Slow(clock, 0.25)}, texts)
    assert (rows.loc[rows["system"] == "slow", "seconds"] == 0.25).all()


def test_systems_are_warm_before_the_clock_counts(guard, texts):
    slow = Slow([0.0], 0.1)
    latency.measure({"guard": guard, "slow": slow}, texts, repeats=1)
    assert len(slow.seen) == len(texts) + min(8, len(texts)) + 2


def test_nothing_to_measure_is_refused(guard, texts):
    with pytest.raises(ValueError, match="0 repeats"):
        latency.measure({"guard": guard}, texts, repeats=0)
    with pytest.raises(ValueError, match="0 texts"):
        latency.measure({"guard": guard}, texts.iloc[:0])
    with pytest.raises(ValueError, match="Guard"):
        latency.measure({"slow": Slow([0.0], 1.0)}, texts)


def test_headline(guard, texts):
    rows = latency.measure({"guard": guard, "BERT-6": Slow([0.0], 1.0)}, texts, repeats=1)
    loads = pd.DataFrame({"texts_per_second": [100.0, 300.0]})
    figures = latency.headline(rows, {"total_seconds": 1.5, "resident_bytes": 2e8}, loads)
    assert figures["texts_per_second"] == 300
    faster = latency.speed_ups(rows).set_index("tokens").loc["all", "BERT-6"]
    assert figures["times_faster_than_BERT-6"] == pytest.approx(faster)
    assert figures["resident_mb"] == 200
    assert figures["p50_ms"] <= figures["p95_ms"] <= figures["p99_ms"]
    assert all(type(value) is float for value in figures.values())


def test_throughput(guard, reference, texts):
    rows = throughput.by_batch({"guard": guard, "BERT-6": reference}, texts, batches=(1, 4))
    assert list(zip(rows["system"], rows["batch"], strict=True)) == [
        ("guard", 1), ("BERT-6", 1), ("guard", 4), ("BERT-6", 4)
    ]  # fmt: skip
    assert (rows["texts_per_second"] > 0).all()


def test_the_reference_reads_texts(reference, texts):
    """Alone and in a list, long texts cut and odd ones taken."""
    many = [*texts["text"], "\ud800", "word " * 2000]
    answers = reference.scan(many)
    assert len(answers) == len(many)
    assert set(answers) <= set(range(4))
    assert isinstance(reference.scan("hello"), int)


def test_the_reference_is_as_large_as_it_says(tiny, tmp_path_factory, reference):
    """Layers of the width it was given and BERT's vocabulary, in INT8."""
    import onnx

    folder = next(path.parent for path in tmp_path_factory.getbasetemp().glob("reference*/int8.onnx"))
    graph = onnx.load(folder / "int8.onnx").graph
    shapes = [
        tuple(tensor.dims)
        for tensor in graph.initializer
        if tensor.data_type in (onnx.TensorProto.INT8, onnx.TensorProto.UINT8)
    ]
    assert shapes.count((48, 96)) == shapes.count((96, 48)) == 2
    assert (30522, 48) in shapes
    assert not (folder / "float32.onnx").exists()


def test_a_small_deberta_reads_texts(tiny, tmp_path):
    small = reference_model(Shape("deberta", 1, 48, 4, 96, 31_000), tmp_path, tiny.profile, threads=1)
    assert len(small.scan(["hello", "word " * 600])) == 2


def test_references_are_the_shapes_of_other_guards():
    assert (SHAPES["BERT-6"].layers, SHAPES["BERT-6"].width) == (6, 384)
    for name, width in (("DeBERTa-xsmall", 384), ("DeBERTa-base", 768)):
        shape = SHAPES[name]
        assert (shape.layers, shape.width, shape.ffn, shape.vocabulary) == (12, width, 4 * width, 128_100)


def test_an_unknown_reference_is_named(tiny):
    evaluation = dataclasses.replace(tiny.profile.evaluation, latency_references=("GPT",))
    with pytest.raises(ConfigError, match=r"'GPT'.*BERT-6"):
        latency.references(dataclasses.replace(tiny.profile, evaluation=evaluation))


def test_the_reference_of_speed_ups_must_be_there(tiny):
    evaluation = dataclasses.replace(tiny.profile.evaluation, latency_references=("DeBERTa-base",))
    with pytest.raises(ConfigError, match="lacks 'BERT-6'"):
        latency.references(dataclasses.replace(tiny.profile, evaluation=evaluation))


def test_slow_systems_take_part_once(guard, texts):
    rows = latency.measure({"guard": guard, "slow": Slow([0.0], 1.0)}, texts, repeats=3, once=["slow"])
    assert rows.groupby("system")["repeat"].nunique().to_dict() == {"guard": 3, "slow": 1}


def test_speed_ups_are_ratios_of_medians():
    seconds = {"guard": ([1, 2, 30], [5, 6, 70]), "a": ([3, 4, 500], [6, 18, 900]), "b": ([1, 1, 1], [1, 3, 3])}
    rows = pd.DataFrame(
        [(name, tokens, value) for name, parts in seconds.items() for tokens, part in zip((10, 20), parts, strict=True)
         for value in part],
        columns=["system", "tokens", "seconds"],
    )  # fmt: skip
    table = latency.speed_ups(rows).set_index("tokens")
    assert table.to_dict("index") == {
        "1–16": pytest.approx({"a": 4 / 2, "b": 1 / 2}),
        "17–32": pytest.approx({"a": 18 / 6, "b": 3 / 6}),
        "all": pytest.approx({"a": 12 / 5.5, "b": 1 / 5.5}),
    }
    assert list(table.index) == ["1–16", "17–32", "all"]


def test_systems_are_compared_in_the_repeats_that_all_took_part_in():
    seconds = {("guard", 0): 0.002, ("guard", 1): 0.001, ("slow", 0): 0.01}  # the guard is faster without the other
    rows = pd.DataFrame(
        [(*key, 10, value) for key, value in seconds.items()], columns=["system", "repeat", "tokens", "seconds"]
    )
    assert latency.speed_ups(rows).set_index("tokens").loc["all", "slow"] == pytest.approx(5)
    assert percentiles(rows, "slow").set_index(["system", "tokens"]).loc[("guard", "all"), "speed_up"] == pytest.approx(
        5
    )
    assert percentiles(rows).set_index(["system", "tokens"]).loc[("guard", "all"), "n"] == 2


def test_throughput_by_threads_and_processes(tiny, texts, monkeypatch):
    monkeypatch.setattr(throughput, "_counts", lambda: [1, 2])
    rows = throughput.by_workers(tiny.folder / "guard", texts, batch=4)
    assert rows[["processes", "threads"]].to_numpy().tolist() == [[1, 1], [2, 1], [1, 2]]
    assert rows["texts"].tolist() == [len(texts), 2 * len(texts), len(texts)]
    assert (rows["texts_per_second"] > 0).all()


def test_a_process_that_fails_is_reported(tmp_path):
    with pytest.raises(RuntimeError, match="does not exist"):
        throughput._in_processes(tmp_path / "none", ["a"], 1, 1)


def test_steps_make_up_the_whole(guard, monkeypatch):
    """By a clock that only the steps move, each by a time of its own."""
    clock, reader = [0], guard.reader
    monkeypatch.setattr(cost.time, "perf_counter", lambda: clock[0])

    def slow(owner, name: str, seconds: int) -> None:
        real = getattr(owner, name)

        def call(*given, **more):
            clock[0] += seconds
            return real(*given, **more)

        monkeypatch.setattr(owner, name, call)

    expected = []
    for text in tiny_guard.TEXTS:
        deep = guard.score_windows([text]).router.max() >= guard.settings.calibration.router_threshold
        expected.append([1, 2, 4 * len(reader.views(text)), 8 + 16, 32, 64 * deep, 128])
    slow(reader, "views", 1)
    slow(reader.tokenizer, "cut", 2)
    slow(reader.tokenizer, "pieces", 4)
    slow(reader, "windows", 8)
    slow(reader, "collate", 16)
    slow(guard.model, "front", 32)
    slow(guard.model, "deep", 64)
    slow(guard, "scan", 128)
    rows = [cost._steps(guard, text) for text in tiny_guard.TEXTS]
    assert [[row[step] for step in cost.STEPS] for row in rows] == expected
    assert [row["whole"] for row in rows] == [sum(parts) for parts in expected]
    assert {parts[5] for parts in expected} == {0, 64}


def test_steps_of_every_text_are_measured(guard, texts):
    table = cost.breakdown(guard, texts["text"].tolist())
    assert table["n"].sum() == len(texts)
    assert (table[list(cost.STEPS)] >= 0).all(axis=None)
    assert (table["front graph"] > 0).all()
    assert (table["whole"] > 0).all()


def test_cost_by_length(guard, texts):
    table = cost.by_length(guard, texts["text"].tolist(), lengths=(100, 2000), repeats=1)
    assert table["characters"].tolist() == [100, 2000]
    assert table["windows"].is_monotonic_increasing
    assert table["ms_per_1000_characters"].tolist() == pytest.approx(
        (1000 * table["milliseconds"] / table["characters"]).tolist()
    )
    with pytest.raises(ValueError, match="no texts"):
        cost.by_length(guard, ["", " "])


def test_texts_are_chosen_once_and_as_many_as_asked(tiny):
    rows = pd.DataFrame({"source": "s", "text": [f"text {i % 150}" for i in range(200)]})
    rows.loc[rows.index % 150 < 50, "source"] = "obfuscated"
    profile = dataclasses.replace(
        tiny.profile, evaluation=dataclasses.replace(tiny.profile.evaluation, latency_texts=40)
    )
    chosen = latency.choose_texts(rows, profile)
    assert len(chosen) == chosen["text"].nunique() == chosen["text_id"].nunique() == 40
    assert chosen.equals(latency.choose_texts(rows, profile))
    assert set(chosen["text"]) <= {f"text {i}" for i in range(50, 150)}
    with pytest.raises(ValueError, match="no written rows"):
        latency.choose_texts(rows.iloc[:50], profile)


def test_cold_start_and_machine(tiny, tmp_path):
    cold = latency.cold_start(tiny.folder / "guard", runs=1)
    parts = cold["import_seconds"] + cold["load_seconds"] + cold["first_verdict_seconds"]
    assert parts == pytest.approx(cold["total_seconds"])
    assert 10e6 < cold["resident_bytes"] < 2e9
    latency.write_machine(tmp_path / "machine.json", cold)
    values = json.loads((tmp_path / "machine.json").read_text(encoding="utf-8"))
    assert values["cold_start"] == cold
    assert values["threads"] >= 1
    assert values["cpu"]


def test_a_guard_that_does_not_start_is_reported(tmp_path):
    with pytest.raises(RuntimeError, match="does not exist"):
        latency.cold_start(tmp_path / "none", runs=1)
