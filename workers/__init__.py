"""Runs the worker and upkeep processes: Celery app, asyncio pool, order of queues, duties."""
