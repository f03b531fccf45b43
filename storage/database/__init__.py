"""Connects to Postgres."""
