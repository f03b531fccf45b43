"""Adds budgets, metrics, redaction and outage handling around the ports of the pipeline."""
