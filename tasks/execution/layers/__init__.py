"""Adds budgets, metrics, redaction and outage handling to the pipeline's dependencies."""
