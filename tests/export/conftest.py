import pytest

from tests import tiny_guard


@pytest.fixture(scope="session")
def tiny() -> tiny_guard.Tiny:
    return tiny_guard.build()
