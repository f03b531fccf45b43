"""Speaks HTTP to a running Penstock."""
