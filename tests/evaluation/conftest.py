from __future__ import annotations

from hypothesis import settings

# A busy machine is no failure: examples have no time limit of their own.
settings.register_profile("evaluation", deadline=None, max_examples=50)
settings.load_profile("evaluation")
