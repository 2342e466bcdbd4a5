"""The experiment of notebook 09 checks what it is asked for before it trains."""

import dataclasses

import pandas as pd
import pytest

from guardlib.config import ConfigError
from guardlib.distillation.experiment import prepare
from guardlib.settings import get_profile

NONE = pd.DataFrame({"text": [], "label": [], "source": [], "lang": []})


@pytest.mark.parametrize(
    ("recipes", "words"), [(("alone", "by_heart"), "'by_heart'; expected some of"), (("alone", "plain_kd"), "'routed'")]
)
def test_recipes_are_checked_first(tmp_path, recipes, words):
    profile = get_profile("smoke")
    profile = dataclasses.replace(profile, distillation=dataclasses.replace(profile.distillation, recipes=recipes))
    with pytest.raises(ConfigError, match=words):
        prepare(NONE, NONE, NONE, profile, tmp_path)
