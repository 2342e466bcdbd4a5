from hypothesis import HealthCheck, settings

# Time limits belong in benchmarks: a busy machine is no bug.
settings.register_profile("guardlib", deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("guardlib")
