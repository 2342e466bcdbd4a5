import pytest


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """No test of the data stage asks the network."""
    monkeypatch.setattr("guardlib.data.loading.why_no_hub", lambda: "the tests stay offline")
