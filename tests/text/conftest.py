from hypothesis import settings

# Time limits belong in benchmarks: a busy machine is no bug.
settings.register_profile("guardlib", deadline=None, max_examples=60)
settings.load_profile("guardlib")
