"""Runs the worker and upkeep processes."""
