"""Accepts jobs from HTTP, Celery and batches, and delivers their results."""
