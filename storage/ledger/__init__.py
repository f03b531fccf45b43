"""Stores what calls cost, and reports it."""
