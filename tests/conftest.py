"""Settings that every test shares."""

import os

from hypothesis import settings

# Timing is for benchmarks: a slow machine must not fail a test. In CI the examples are the same in every run.
settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")
