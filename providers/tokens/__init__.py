"""Bounds, counts and estimates tokens. Pure."""
