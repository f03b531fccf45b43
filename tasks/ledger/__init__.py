"""Reconciles money between Redis, Postgres and the providers."""
