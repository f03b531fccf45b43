"""Stores keys, configuration, usage and Celery results."""
