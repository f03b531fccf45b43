"""Runs the life of a job: intake, dispatch, execution, maintenance."""
