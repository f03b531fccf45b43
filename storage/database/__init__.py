"""Connects to Postgres: engine, schema, notifications, leadership, statements, group commit."""
