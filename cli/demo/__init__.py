"""Runs `penstock demo`."""
