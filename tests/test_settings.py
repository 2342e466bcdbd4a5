"""Profiles and settings: nothing unknown or ill-typed gets through, nothing is lost on the way to disk."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardlib.config import PROFILES, ConfigError
from guardlib.settings import CHOICES, COUNTS, INNER_SHARES, NAMES, NOT_NEGATIVE, POSITIVE, SHARES, get_profile


def from_json(profile):
    """The profile again, from what is saved with every artifact."""
    saved = json.loads(json.dumps(profile.to_dict()))
    settings = {"seed": saved.pop("seed")}
    name = saved.pop("name")
    for section, values in saved.items():
        settings |= {f"{section}.{key}": value for key, value in values.items()}
    return get_profile(name, settings)


@pytest.mark.parametrize("name", PROFILES)
def test_profiles_survive_json(name):
    """A saved profile is read back as the same value."""
    assert from_json(get_profile(name)) == get_profile(name)


@given(
    seed=st.integers(0, 2**31),
    rate=st.floats(1e-6, 1.0),
    widths=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    budget=st.floats(0.01, 0.99),
)
def test_settings_reach_the_profile(seed, rate, widths, budget):
    """Dotted keys set what they name, and survive JSON."""
    settings = {"seed": seed, "training.learning_rate": rate, "model.char_widths": widths, "model.deep_budget": budget}
    profile = get_profile("smoke", settings)
    assert (profile.seed, profile.training.learning_rate) == (seed, rate)
    assert profile.model.char_widths == tuple(widths)
    assert from_json(profile) == profile
    assert get_profile("smoke").seed == 0  # the named profile itself is untouched


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("epochs", 3, "setting 'epochs' does not exist; Profile has"),
        ("training.epoch", 3, "TrainingConfig has"),
        ("training", 3, "is a group of settings"),
        ("seed.x", 3, "has no settings of its own"),
        ("name", "other", "does not exist"),
        ("training.epochs", "3", "expected int"),
        ("training.epochs", 2.5, "expected int"),
        ("training.epochs", True, "expected int"),
        ("training.learning_rate", None, "expected float"),
        ("model.use_views", 1, "expected bool"),
        ("model.backbone", 7, "expected str"),
    ],
)
def test_wrong_settings_are_named(key, value, words):
    """The message holds the key and what was expected."""
    with pytest.raises(ConfigError, match=words) as error:
        get_profile("smoke", {key: value})
    assert repr(key) in str(error.value)


def test_optional_settings_take_none():
    """`int | None` accepts both."""
    assert get_profile("laptop", {"training.max_train_tokens": None}).training.max_train_tokens is None
    assert get_profile("laptop", {"training.max_train_tokens": 5}).training.max_train_tokens == 5


def test_unknown_profile_and_keys_of_a_saved_one():
    """A file from elsewhere is checked like the command line."""
    with pytest.raises(ConfigError, match="'huge' does not exist; expected one of smoke, laptop, release, paper"):
        get_profile("huge")


@pytest.mark.parametrize(
    ("names", "value", "words"),
    [
        (COUNTS, 0, "at least 1"),
        (SHARES, 1.5, "a share from 0 to 1"),
        (SHARES, -0.5, "a share from 0 to 1"),
        (INNER_SHARES, 1.0, "above 0 and below 1"),
        (INNER_SHARES, 0.0, "above 0 and below 1"),
        (POSITIVE, 0.0, "a number above 0"),
        (POSITIVE, float("nan"), "a number above 0"),
        (NOT_NEGATIVE, -1, "0 or more"),
    ],
)
def test_numbers_a_run_could_do_nothing_with_are_refused(names, value, words):
    """Before anything runs, not after an hour of training."""
    for name in names:
        with pytest.raises(ConfigError, match=rf"setting '{name}' is {value}(\.0)?; expected .*{words}"):
            get_profile("smoke", {name: value})


def test_a_split_that_leaves_nothing_to_train_on_is_refused():
    with pytest.raises(ConfigError, match=r"validation_share and data.test_share add up to 1.1; expected less than 1"):
        get_profile("smoke", {"data.validation_share": 0.5, "data.test_share": 0.6})


@pytest.mark.parametrize(("name", "value", "words"), [
    ("data.near_duplicate_threshold", 0.3, r"data.near_duplicate_threshold is 0.3; expected 0.5 to 1"),
    ("data.near_duplicate_threshold", 1.5, r"data.near_duplicate_threshold is 1.5; expected 0.5 to 1"),
    ("seed", -1, "seed is -1; expected 0 or more"),
    ("training.weight_decay", -0.1, "setting 'training.weight_decay' is -0.1; expected 0 or more"),
    ("training.source_temperature", float("nan"), "setting 'training.source_temperature' is nan; expected 0 or more"),
])  # fmt: skip
def test_what_no_run_can_use_is_refused_at_once(name, value, words):
    with pytest.raises(ConfigError, match=words):
        get_profile("smoke", {name: value})


@pytest.mark.parametrize("name", CHOICES)
def test_names_that_are_none_are_refused(name):
    with pytest.raises(ConfigError, match=rf"setting '{name}' is 'nothing'; expected one of {CHOICES[name][0]}, "):
        get_profile("smoke", {name: "nothing"})


@pytest.mark.parametrize("name", NAMES)
def test_names_in_a_list_are_checked(name):
    with pytest.raises(ConfigError, match=rf"setting '{name}' holds 'nothing'; expected some of {NAMES[name][0]}, "):
        get_profile("smoke", {name: [NAMES[name][1], "nothing"]})


def test_names_are_those_of_the_registries():
    """Spelt out a second time, so that a typo is found before an hour of training and without importing torch."""
    from guardlib.data.build import POLICIES
    from guardlib.distillation.objective import RECIPES
    from guardlib.evaluation import plain_backbone  # noqa: F401  (registers its two)
    from guardlib.evaluation.baselines import BASELINES
    from guardlib.evaluation.hub_guards import HUB_GUARDS
    from guardlib.evaluation.reference_models import SHAPES

    assert set(NAMES["evaluation.baselines"]) == set(BASELINES)
    assert set(NAMES["evaluation.leave_out_systems"]) == {"guard", *BASELINES}
    assert set(NAMES["evaluation.hub_guards"]) == set(HUB_GUARDS)
    assert set(NAMES["evaluation.latency_references"]) == set(SHAPES)
    assert set(NAMES["distillation.recipes"]) == set(RECIPES)
    assert CHOICES["data.harmful_request_policy"] == POLICIES


@pytest.mark.parametrize(
    ("value", "words"),
    [("mine.csv", r"""expected a list as JSON, e.g. -p 'data.files=\["…"\]'"""), ([3], r"is 3 \(int\); expected str")],
)
def test_what_is_no_list_of_the_right_things_is_refused(value, words):
    with pytest.raises(ConfigError, match=words):
        get_profile("smoke", {"data.files": value})
