"""Environment variables that a Python process needs to start. They hold no secrets."""

PYTHON_NEEDS = frozenset({"PATH", "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "LANG", "LC_ALL"})
"""The variables that a child gets if it does not inherit the whole environment."""
