"""Checks replies against output contracts."""
