"""Builds the Celery app of processes that run no tasks."""

from celery import Celery
from kombu.entity import Queue

from config.broker import QUEUES, caller_options


def celery_app(redis_url: str) -> Celery:
    """Build an app with the four lanes; it connects with the first message."""
    app = Celery("penstock", set_as_current=False)
    app.conf.update(caller_options(redis_url), task_queues=lane_queues())
    return app


def lane_queues() -> list[Queue]:
    """Build a queue per lane, bound to its own name."""
    return [Queue(name, routing_key=name) for name in QUEUES]  # type: ignore[no-untyped-call]  # kombu's
