"""Training from several seeds: each is another model, what is there is not trained again, the mean has its interval."""

import dataclasses

import pandas as pd
import pytest
from scipy import stats

from guardlib.config import ConfigError
from guardlib.evaluation.routing import RouterCollapse
from guardlib.training import seeds
from tests.helpers import TINY, make_frame, make_profile

FRAMES = {name: make_frame(60, seed=i) for i, name in enumerate(("train", "validation", "test"))}


def with_seeds(count: int):
    return make_profile(dataclasses.replace(TINY, vocab_size=3000), epochs=1, seeds=count)


def test_each_seed_is_another_model_and_is_trained_once(tmp_path, monkeypatch):
    monkeypatch.setattr("guardlib.training.trainer.check_collapse", lambda *_, **__: None)  # too short to route
    monkeypatch.setattr("guardlib.training.operating_points.check_collapse", lambda *_, **__: None)
    found = seeds.train_other_seeds(FRAMES, with_seeds(3), tmp_path)
    assert list(found) == [1, 2]
    assert all(list(rows["label"]) == list(FRAMES["test"]["label"]) for rows in found.values())
    assert not found[1]["score"].equals(found[2]["score"])
    monkeypatch.setattr(seeds, "train", lambda *_: pytest.fail("a finished seed was trained again"))
    again = seeds.train_other_seeds(FRAMES, with_seeds(3), tmp_path)
    pd.testing.assert_frame_equal(again[2], found[2])


def test_a_seed_of_other_settings_or_cut_short_is_trained_again(tmp_path, monkeypatch):
    monkeypatch.setattr("guardlib.training.trainer.check_collapse", lambda *_, **__: None)
    monkeypatch.setattr("guardlib.training.operating_points.check_collapse", lambda *_, **__: None)
    before = seeds.train_other_seeds(FRAMES, with_seeds(2), tmp_path)
    slower = dataclasses.replace(
        with_seeds(2), training=dataclasses.replace(with_seeds(2).training, learning_rate=1e-4)
    )
    after = seeds.train_other_seeds(FRAMES, slower, tmp_path)
    assert not after[1]["score"].equals(before[1]["score"])
    (tmp_path / "seed_1" / "identity.json").unlink()  # a run that was killed while it wrote the rows
    (tmp_path / "seed_1" / "test_scores.parquet").write_bytes(b"PAR1 half a file")
    again = seeds.train_other_seeds(FRAMES, slower, tmp_path)[1]
    pd.testing.assert_frame_equal(again.drop(columns="seconds"), after[1].drop(columns="seconds"))


def test_a_seed_of_other_code_is_another(tmp_path, monkeypatch):
    before = seeds._identity(FRAMES, with_seeds(2))
    assert seeds._identity(FRAMES, with_seeds(2)) == before
    monkeypatch.setattr(seeds, "code_digests", lambda modules: {"trainer.py": "changed"})
    assert seeds._identity(FRAMES, with_seeds(2)) != before


def test_a_seed_whose_router_collapses_is_a_warning(tmp_path, monkeypatch):
    def collapses(*_, **__):
        raise RouterCollapse("the router sends 100 % of texts deep")

    monkeypatch.setattr(seeds, "train", collapses)
    with pytest.warns(UserWarning, match="seed 1 has no figures: the router sends 100 %"):
        assert seeds.train_other_seeds(FRAMES, with_seeds(2), tmp_path) == {}


def test_one_seed_trains_no_other_and_none_is_refused(tmp_path):
    assert seeds.train_other_seeds(FRAMES, with_seeds(1), tmp_path) == {}
    with pytest.raises(ConfigError, match=r"training\.seeds is 0; expected at least 1"):
        seeds.train_other_seeds(FRAMES, with_seeds(0), tmp_path)


def rows(right: int, deep: int) -> pd.DataFrame:
    """Ten texts, half of them attacks, of which ``right`` texts are judged rightly and ``deep`` went deep."""
    label = [0, 1] * 5
    flagged = [bool(y) == (i < right) for i, y in enumerate(label)]
    return pd.DataFrame(
        {
            "benchmark": "test",
            "family": "made",
            "system": "guard",
            "example_id": range(10),
            "label": label,
            "flagged": flagged,
            "route": ["deep"] * deep + ["fast"] * (10 - deep),
        }
    )


def test_spread_has_the_mean_and_its_t_interval():
    table = seeds.spread({0: rows(8, 3), 1: rows(6, 2), 2: rows(10, 4)}).set_index("seed")
    assert table.loc[[0, 1, 2], "accuracy"].tolist() == [0.8, 0.6, 1.0]
    low, high = stats.t.interval(0.95, 2, loc=0.8, scale=stats.sem([0.8, 0.6, 1.0]))
    assert high > 1  # which no accuracy is
    assert table.loc[["low", "mean", "high"], "accuracy"].tolist() == pytest.approx([low, 0.8, 1])
    assert (table["n"] == 10).all()
    assert table.loc["mean", "deep_share"] == pytest.approx(0.3)


def test_spread_of_one_seed_says_nothing_of_others():
    table = seeds.spread({7: rows(8, 3)}).set_index("seed")
    assert table.index.tolist() == [7]
    assert table.loc[7, "accuracy"] == 0.8
