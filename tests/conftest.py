"""Order of the suite: fast tests first, the whole workbook last; where two processes share it, the workbook first."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

# Time limits belong in benchmarks: a busy machine is no bug.
settings.register_profile("guardlib", deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("guardlib")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The slow file goes to the end, so that a plain mistake shows within seconds.

    One of several processes begins with it instead, while the others run the fast ones: it takes as long as they all.
    """
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    shared = hasattr(config, "workerinput")
    items.sort(key=lambda item: (item.path in slow) != shared)


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
