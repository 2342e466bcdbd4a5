from __future__ import annotations

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest

from guardlib.evaluation import latency
from guardlib.evaluation.reference_bert import LAYERS, ReferenceBert, reference_bert
from guardlib.runtime.guard import Guard
from tests import tiny_guard


@pytest.fixture(scope="module")
def tiny() -> tiny_guard.Tiny:
    return tiny_guard.build()


@pytest.fixture(scope="module")
def guard(tiny) -> Guard:
    return Guard.load(tiny.folder / "guard", threads=1)


@pytest.fixture(scope="module")
def reference(tiny, tmp_path_factory) -> ReferenceBert:
    return reference_bert(tmp_path_factory.mktemp("reference"), tiny.profile, layers=2)  # six take three times as long


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


def test_systems_take_turns(guard, texts):
    """A burst of load on the machine must not fall on one system alone."""
    rows = latency.measure({"guard": guard, "other": Slow([0.0], 1.0)}, texts, repeats=3)
    pairs = rows["system"].to_numpy().reshape(-1, 2)
    assert (np.sort(pairs, axis=1) == ["guard", "other"]).all()
    assert len(set(pairs[:, 0])) == 2  # and neither is always first
    assert (rows["text_id"].to_numpy().reshape(-1, 2)[:, 0] == rows["text_id"].to_numpy().reshape(-1, 2)[:, 1]).all()


def test_seconds_are_the_clock_s(guard, texts, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(latency.time, "perf_counter", lambda: clock[0])
    rows = latency.measure({"guard": guard, "slow": Slow(clock, 0.25)}, texts)
    assert (rows.loc[rows["system"] == "slow", "seconds"] == 0.25).all()


def test_systems_are_warm_before_the_clock_counts(guard, texts):
    slow = Slow([0.0], 0.1)
    latency.measure({"guard": guard, "slow": slow}, texts, repeats=1)
    assert len(slow.seen) == len(texts) + min(8, len(texts))


def test_nothing_to_measure_is_refused(guard, texts):
    with pytest.raises(ValueError, match="0 repeats"):
        latency.measure({"guard": guard}, texts, repeats=0)
    with pytest.raises(ValueError, match="0 texts"):
        latency.measure({"guard": guard}, texts.iloc[:0])
    with pytest.raises(ValueError, match="Guard"):
        latency.measure({"slow": Slow([0.0], 1.0)}, texts)


def test_headline(guard, texts):
    rows = latency.measure({"guard": guard, "BERT-6": Slow([0.0], 1.0)}, texts, repeats=1)
    figures = latency.headline(rows, {"total_seconds": 1.5, "resident_bytes": 2e8})
    assert figures["resident_mb"] == 200
    assert figures["p50_ms"] <= figures["p95_ms"] <= figures["p99_ms"]
    assert all(type(value) is float for value in figures.values())


def test_throughput(guard, reference, texts):
    rows = latency.throughput({"guard": guard, "BERT-6": reference}, texts, batches=(1, 4))
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
    """Layers of the guard's width, six unless told otherwise, and BERT's vocabulary, in the precision of the guard."""
    import onnx

    folder = next(path.parent for path in tmp_path_factory.getbasetemp().glob("reference*/int8.onnx"))
    graph = onnx.load(folder / "int8.onnx").graph
    shapes = [tuple(tensor.dims) for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.INT8]
    width, ffn = tiny.profile.model.d_model, tiny.profile.model.ffn_dim
    assert shapes.count((width, ffn)) == shapes.count((ffn, width)) == 2
    assert LAYERS == 6
    assert (30522, width) in shapes
    assert not (folder / "float32.onnx").exists()


def test_texts_are_chosen_once_and_as_many_as_asked(tiny):
    rows = pd.DataFrame({"benchmark": "b", "example_id": range(200), "text": [f"text {i % 150}" for i in range(200)]})
    profile = dataclasses.replace(
        tiny.profile, evaluation=dataclasses.replace(tiny.profile.evaluation, latency_texts=40)
    )
    chosen = latency.choose_texts(rows, profile)
    assert len(chosen) == chosen["text"].nunique() == chosen["text_id"].nunique() == 40
    assert chosen.equals(latency.choose_texts(rows, profile))
    with pytest.raises(ValueError, match="no benchmark rows"):
        latency.choose_texts(rows.iloc[:0], profile)


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
