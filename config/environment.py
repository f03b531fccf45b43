"""Environment variables that a Python process needs. They hold no secrets."""

PYTHON_NEEDS = frozenset({"PATH", "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "LANG", "LC_ALL"})
"""Passed to a child that does not inherit the environment."""
