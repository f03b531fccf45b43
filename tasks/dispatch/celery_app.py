"""Builds the Celery app of a process that publishes and delivers results, and runs no tasks."""

from celery import Celery
from kombu.entity import Queue

from config.broker import QUEUES, caller_options


def celery_app(redis_url: str) -> Celery:
    """Build a separate app with the four lanes; it connects with the first message."""
    app = Celery("penstock", set_as_current=False)
    app.conf.update(caller_options(redis_url), task_queues=lane_queues())
    return app


def lane_queues() -> list[Queue]:
    """The four lanes as queues, each bound to its own name."""
    return [Queue(name, routing_key=name) for name in QUEUES]  # type: ignore[no-untyped-call]  # kombu's
