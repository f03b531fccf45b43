"""Environment variables that a Python process needs to start. They hold no secrets."""

PYTHON_NEEDS = frozenset({"PATH", "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "LANG", "LC_ALL"})
"""What a child gets that gets a list instead of the whole environment."""
