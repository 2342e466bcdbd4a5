"""The experiment of notebook 09 checks what it is asked for before it trains, and trains nothing twice."""

import dataclasses

import pandas as pd
import pytest

from guardlib.config import ConfigError
from guardlib.distillation import trainer
from guardlib.distillation.errors import PairError
from guardlib.distillation.experiment import expert_use, prepare, starts, teach
from guardlib.distillation.finished import model_digest
from guardlib.distillation.trainer import distil
from guardlib.settings import get_profile
from guardlib.training.checkpoint import CheckpointError

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


def test_recipes_of_a_seed_go_on_from_one_student(runs, monkeypatch):
    begun = {}

    def noted(student, train, validation, config, folder, *rest, **named):
        begun[folder.name] = model_digest(student.model)
        return distil(student, train, validation, config, folder, *rest, **named)

    monkeypatch.setattr("guardlib.distillation.experiment.distil", noted)
    runs()
    assert begun["alone_0"] == begun["routed_0"] != begun["start_0"]


def test_a_student_cut_short_by_other_settings_is_found_before_anything_is_trained(runs, monkeypatch):
    step = trainer._Run._step

    def cut_short(run):
        if run.recipe.routed and run.state.step == 3:
            raise KeyboardInterrupt
        step(run)

    monkeypatch.setattr(trainer._Run, "_step", cut_short)
    with pytest.raises(KeyboardInterrupt):
        runs(checkpoint_every=1)
    taken = []
    monkeypatch.setattr(trainer._Run, "_step", lambda run: taken.append(run.recipe.name) or step(run))
    with pytest.raises(
        CheckpointError, match=r"settings\.alpha = 0\.5, this run has 0\.9; .*distillation\.resume=false"
    ):
        runs(alpha=0.9)
    assert not taken
    assert len(runs()) == 2  # the settings it began with go on
    assert taken == ["routed"]


def test_only_what_a_changed_setting_concerns_is_trained_again(runs, capsys):
    first = runs()
    capsys.readouterr()
    second = runs(alpha=0.9)
    again = [line for line in capsys.readouterr().out.splitlines() if "finished before" in line]
    assert again == ["alone_0 was finished before and is not trained again"]
    same = (first["perplexity"] == second["perplexity"]).tolist()
    assert same == [True, False]


@pytest.mark.parametrize("setting", [{"layer_map": "9,9"}, {"guard_teacher": "nowhere/at-all"}])
def test_what_cannot_work_is_found_before_anything_is_trained(runs, monkeypatch, setting):
    monkeypatch.setattr("guardlib.data.loading.why_no_hub", lambda: "the tests stay offline")
    monkeypatch.setattr("guardlib.distillation.trainer._Run._step", lambda self: pytest.fail("it was trained"))
    with pytest.raises(PairError):
        runs(**setting)


def test_a_router_that_collapses_late_or_in_another_seed_is_reported(tmp_path):
    """Over the whole run either has half of its weight elsewhere."""
    config = dataclasses.replace(CONFIG, seeds=2)
    profile = dataclasses.replace(get_profile("smoke"), distillation=config)
    even, one = [0.5, 0.5], [0.99, 0.01]
    for seed, uses in enumerate(([even, even], [even, one])):
        folder = tmp_path / f"routed_{seed}"
        folder.mkdir()
        rows = [{"experts": count, "expert_use_0": a, "expert_use_1": b} for count, (a, b) in enumerate(uses, 1)]
        pd.DataFrame([{"experts": None}, *rows]).to_csv(folder / "steps.csv", index=False)
    use = expert_use(tmp_path, profile)
    assert use["collapsed"].tolist() == [False, False, False, True]
    assert use.loc[use["collapsed"], ["seed", "experts_per_token"]].to_numpy().tolist() == [[1, 2]]


def test_where_each_part_starts():
    steps = pd.DataFrame({
        "step": [1, 10, 20], "raw_lm": [7.0, 6, 5], "weighted_lm": [3.5, 3, 2.5],
        "raw_feature": [None, 1.8, 1.5], "weighted_feature": [0, 0.2, 0.3],
        "raw_attention": [None, None, 140.0], "weighted_attention": [0, 0, 70.0],
    })  # fmt: skip
    found = starts(steps).set_index("part")
    assert found["step"].to_dict() == {"lm": 1, "feature": 10, "attention": 20}
    assert found["in_range"].to_dict() == {"lm": True, "feature": True, "attention": False}
