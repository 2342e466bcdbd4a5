"""Weights averaged over orders: the mean is the mean and is kept, a run cut short goes on."""

import dataclasses

import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from guardlib.model.build import build_guardrail
from guardlib.training import averaging
from guardlib.training.averaging import AVERAGE, mean_weights, train_averaged
from guardlib.training.operating_points import discard_checkpoints
from tests.helpers import TINY, make_frame, make_profile

TRAIN, VALIDATION = make_frame(60, seed=0), make_frame(60, seed=1)


@pytest.fixture(autouse=True)
def _too_short_to_route(monkeypatch):
    monkeypatch.setattr("guardlib.training.trainer.check_collapse", lambda *_, **__: None)


def averaged(folder, count: int):
    profile = make_profile(dataclasses.replace(TINY, vocab_size=3000), epochs=1, averaged=count)
    guardrail = build_guardrail(profile, TRAIN["text"], folder)
    start = {name: tensor.clone() for name, tensor in guardrail.model.state_dict().items()}
    history, table = train_averaged(
        guardrail.model, guardrail.reader, TRAIN, VALIDATION, profile, folder, progress_bar=False
    )
    return guardrail.model, start, history, table


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=5))
def test_the_mean_of_weights_is_that_of_each_number(values):
    weights = [{"w": torch.full((2, 3), value), "count": torch.tensor(7)} for value in values]
    found = mean_weights(weights)
    torch.testing.assert_close(found["w"], torch.full((2, 3), sum(values) / len(values)), atol=1e-4, rtol=1e-4)
    assert found["count"] == 7


def test_each_order_is_another_training_from_the_same_start(tmp_path, monkeypatch):
    starts, seeds = [], []
    train = averaging.train

    def watched(model, reader, train_frame, validation_frame, profile, folder, bar):
        starts.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
        seeds.append(profile.seed)
        return train(model, reader, train_frame, validation_frame, profile, folder, bar)

    monkeypatch.setattr(averaging, "train", watched)
    _, start, history, table = averaged(tmp_path, 2)
    assert len(set(seeds)) == 2
    for other in starts:
        for name, tensor in start.items():
            torch.testing.assert_close(other[name], tensor, atol=0, rtol=0)
    assert list(table["weights"]) == ["order 0", "order 1", AVERAGE]
    assert table["val_loss"].nunique() == 3
    assert len(history) == len(pd.read_csv(tmp_path / "history.csv"))
    assert (tmp_path / "order_1" / "steps.csv").is_file()


def test_the_mean_stays_in_the_model(tmp_path, monkeypatch):
    ends, train = [], averaging.train

    def watched(model, *arguments):
        history = train(model, *arguments)
        ends.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
        return history

    monkeypatch.setattr(averaging, "train", watched)
    model, *_ = averaged(tmp_path, 2)
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, mean_weights(ends)[name], atol=0, rtol=0)


def test_one_training_is_left_as_it_is(tmp_path):
    *_, table = averaged(tmp_path, 1)
    assert table["weights"].tolist() == ["order 0"]
    assert not (tmp_path / "order_1").exists()


def test_a_run_cut_short_trains_only_what_is_missing(tmp_path, monkeypatch):
    _, _, _, whole = averaged(tmp_path / "whole", 2)
    train, calls = averaging.train, []

    def dies(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return train(*arguments)

    monkeypatch.setattr(averaging, "train", dies)
    with pytest.raises(KeyboardInterrupt):
        averaged(tmp_path / "cut", 2)
    written = (tmp_path / "cut" / "checkpoints" / "last.safetensors").stat().st_mtime_ns
    monkeypatch.setattr(averaging, "train", train)
    _, _, _, again = averaged(tmp_path / "cut", 2)
    assert (tmp_path / "cut" / "checkpoints" / "last.safetensors").stat().st_mtime_ns == written
    pd.testing.assert_frame_equal(again, whole)


def test_checkpoints_of_every_order_are_discarded(tmp_path):
    averaged(tmp_path, 2)
    assert len(list(tmp_path.rglob("last.safetensors"))) == 2
    discard_checkpoints(tmp_path)
    assert not list(tmp_path.rglob("checkpoints"))
    assert (tmp_path / "order_1" / "history.csv").is_file()
