"""Hypothesis for the pure tests: no deadline, since a busy machine is no failure."""

from hypothesis import settings

settings.register_profile("relay", deadline=None)
settings.load_profile("relay")
