"""Serves native resources: jobs, dead letters, budgets, limits, keys and health."""
