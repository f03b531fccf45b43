"""Receives messages from the broker."""
