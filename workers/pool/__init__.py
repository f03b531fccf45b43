"""Runs Celery tasks on one asyncio loop."""
