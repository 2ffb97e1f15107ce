"""Hypothesis profiles: a few hundred requests with `make test`, the same ones each time; ten
thousand new ones with `HYPOTHESIS_PROFILE=thorough pytest tests/mistral`."""

import os

from hypothesis import settings

settings.register_profile("quick", max_examples=300, derandomize=True, deadline=None, database=None)
settings.register_profile("thorough", max_examples=10_000, deadline=None, database=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))
