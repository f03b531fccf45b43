"""Stores what belongs to tenants: keys, configuration, usage, Celery results."""
