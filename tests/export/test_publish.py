from __future__ import annotations

import pytest

from guardlib.export.publish import ReleaseError, publish
from guardlib.settings import get_profile


def test_nothing_is_released_before_the_run_is_finished(tmp_path):
    with pytest.raises(ReleaseError, match=r"01_data has no manifest; run: python run_all\.py --profile release"):
        publish(get_profile("release"), tmp_path, tmp_path / "release")
    assert not (tmp_path / "release").exists()
