"""Keeps the effective limits, lanes and budgets, and applies them to Redis."""
