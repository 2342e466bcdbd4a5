"""The experiment of notebook 09 checks what it is asked for before it trains, and trains nothing twice."""

import dataclasses

import pandas as pd
import pytest

from guardlib.config import ConfigError
from guardlib.distillation.experiment import prepare, teach
from guardlib.settings import get_profile

from .conftest import CONFIG

NONE = pd.DataFrame({"text": [], "label": [], "source": [], "lang": []})


@pytest.mark.parametrize(
    ("recipes", "words"), [(("alone", "by_heart"), "'by_heart'; expected some of"), (("alone", "plain_kd"), "'routed'")]
)
def test_recipes_are_checked_first(tmp_path, recipes, words):
    profile = get_profile("smoke")
    profile = dataclasses.replace(profile, distillation=dataclasses.replace(profile.distillation, recipes=recipes))
    with pytest.raises(ConfigError, match=words):
        prepare(NONE, NONE, NONE, profile, tmp_path)


@pytest.fixture
def runs(texts, tmp_path):
    """The rows of a teacher and two students of seconds; keywords are settings."""
    parts = texts[:90], texts[90:120], texts[120:]
    frames = [pd.DataFrame({"text": part, "source": "read", "lang": "en"}) for part in parts]

    def call(**settings):
        config = dataclasses.replace(CONFIG, recipes=("alone", "routed"), seeds=1, teacher_steps=4, max_steps=4)
        profile = dataclasses.replace(get_profile("smoke"), distillation=dataclasses.replace(config, **settings))
        return teach(prepare(*frames, profile, tmp_path, False), profile, tmp_path, False)

    return call


def test_what_was_finished_before_an_interruption_is_not_trained_again(runs, monkeypatch):
    """The teacher comes back from its last checkpoint, the students' rows from disk."""
    first = runs()
    monkeypatch.setattr("guardlib.distillation.trainer._Run._step", lambda self: pytest.fail("it was trained again"))
    pd.testing.assert_frame_equal(runs(), first)


def test_only_what_a_changed_setting_concerns_is_trained_again(runs, capsys):
    first = runs()
    capsys.readouterr()
    second = runs(alpha=0.9)
    again = [line for line in capsys.readouterr().out.splitlines() if "finished before" in line]
    assert again == ["alone_0 was finished before and is not trained again"]
    same = (first["perplexity"] == second["perplexity"]).tolist()
    assert same == [True, False]
