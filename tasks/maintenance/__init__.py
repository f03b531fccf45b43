"""Runs the periodic duties of the leader, item by item."""
