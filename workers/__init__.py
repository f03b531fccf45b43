"""PROCESSES: the Celery app, its asyncio pool, the order of queues, and upkeep."""
