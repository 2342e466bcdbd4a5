"""Order of the suite: fast tests first, the whole workbook last."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

# Time limits belong in benchmarks: a busy machine is no bug.
settings.register_profile("guardlib", deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("guardlib")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow tests go to the end, so that a plain mistake shows within seconds."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A project root of its own: artifacts and figures go there, notebooks come from ``<home>/notebooks``."""
    (tmp_path / "notebooks").mkdir()
    monkeypatch.setenv("GUARDLIB_HOME", str(tmp_path))
    monkeypatch.setenv("GUARDLIB_NOTEBOOKS", str(tmp_path / "notebooks"))
    monkeypatch.delenv("GUARDLIB_DATA", raising=False)
    monkeypatch.delenv("GUARDLIB_HEADLESS", raising=False)
    return tmp_path


@pytest.fixture(scope="session")
def tiny():
    """A small guard exported by the real code, once for all tests (see tests/tiny_guard.py)."""
    from tests import tiny_guard  # torch and ONNX: not for tests that do without

    return tiny_guard.build()
