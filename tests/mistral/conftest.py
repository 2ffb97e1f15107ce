"""Hypothesis profiles: `make test` runs a few hundred requests, the same each time;
`HYPOTHESIS_PROFILE=thorough pytest tests/mistral` runs ten thousand new ones."""

import os

from hypothesis import settings

settings.register_profile("quick", max_examples=300, derandomize=True, deadline=None, database=None)
settings.register_profile("thorough", max_examples=10_000, deadline=None, database=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))
