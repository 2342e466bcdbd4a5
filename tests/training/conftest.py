import pytest
import torch
from hypothesis import HealthCheck, settings

# Time limits belong in benchmarks: a busy machine is no bug.
settings.register_profile("guardlib", deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("guardlib")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Models this small lose more by waiting for a second thread than they gain."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
