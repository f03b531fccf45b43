"""Stores batches, their files, progress and stop-losses."""
