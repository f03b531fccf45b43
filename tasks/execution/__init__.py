"""Runs one job: claim, attempt, decide, record, settle."""
