"""Fixtures and settings for all tests."""

from hypothesis import settings

# `pytester` runs pytest in a folder of its own, to test a plugin of it.
pytest_plugins = ["pytester"]

# No test fails for the time it takes on a machine that has other things to do.
settings.register_profile("patient", parent=settings(), deadline=None)
settings.load_profile("patient")
