"""DOOR: our own resources: jobs, dead letters, budgets, limits, keys and health."""
