"""Runs the periodic duties, and suspect jobs in their own processes."""
