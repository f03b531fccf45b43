"""The processes: Celery app, asyncio pool, order of queues, upkeep."""
