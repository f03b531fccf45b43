"""Publishes waiting jobs to the Celery queues, a bounded prefetch window per flow."""
