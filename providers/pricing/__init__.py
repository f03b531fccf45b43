"""Prices calls."""
