"""Fixtures for all tests."""

# `pytester` runs pytest in a folder of its own, to test a plugin of it.
pytest_plugins = ["pytester"]
