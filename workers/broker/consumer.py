"""Refuses unreadable messages without logging their bodies, which may hold prompts.

A broker that refuses commands, as a demoted one does, is retried after a pause.
"""

import time
from typing import Any

import structlog
from celery import signals
from celery.utils.log import get_logger
from celery.worker import consumer

log = structlog.get_logger()

_celery_log = get_logger("celery.worker.consumer.consumer")

MOST_SHOWN_CHARACTERS = 256
"""Longest task name or id in a log line."""

REFUSED_PAUSE_SECONDS = 1.0
"""Connecting to a broker that refuses commands succeeds at once."""


class Strategies(dict[str, Any]):
    """Maps task names to strategies."""

    def __getitem__(self, name: Any) -> Any:  # noqa: ANN401 - unchecked JSON
        """Return a strategy. Raises KeyError, also for unhashable names."""
        if not isinstance(name, str):
            raise KeyError(type(name).__name__)
        return super().__getitem__(name)


class Consumer(consumer.Consumer):  # type: ignore[misc]  # Celery ships no types
    """Celery's consumer with our refusals."""

    Strategies = Strategies
    _is_refused = False

    def on_connection_error_before_connected(self, exc: Exception) -> None:
        """Pause if the broker refuses; Celery handles unreachable ones."""
        if not isinstance(exc, self.channel_errors):
            super().on_connection_error_before_connected(exc)
            return
        if not self._is_refused:
            log.warning("broker_refuses", reason=str(exc))
        self._is_refused = True
        time.sleep(REFUSED_PAUSE_SECONDS)

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Log the next refusal again and let Celery reconnect."""
        self._is_refused = False
        super().on_connection_error_after_connected(exc)

    def on_unknown_message(self, body: Any, message: Any) -> None:  # noqa: ANN401, ARG002 - Celery's
        """Refuse a message that is no task message."""
        log.warning("message_refused", reason="no task message", queue=_queue(message))
        self._refuse(message)

    def on_unknown_task(self, body: Any, message: Any, exc: Exception) -> None:  # noqa: ANN401, ARG002 - Celery's
        """Refuse a message with an unregistered task."""
        name, task_id = _header(message, "task"), _header(message, "id")
        log.warning("message_refused", reason="unknown task", task=name, task_id=task_id, queue=_queue(message))
        message.reject_log_error(_celery_log, self.connection_errors)
        signals.task_unknown.send(sender=self, message=message, exc=exc, name=name, id=task_id)

    def on_invalid_task(self, body: Any, message: Any, exc: Exception) -> None:  # noqa: ANN401, ARG002 - Celery's
        """Refuse a message with an incomplete envelope."""
        task = _header(message, "task")
        log.warning("message_refused", reason="invalid envelope", task=task, queue=_queue(message))
        self._refuse(message, exc)

    def on_decode_error(self, message: Any, exc: Exception) -> None:  # noqa: ANN401 - Celery's
        """Refuse a message that is not JSON."""
        task = _header(message, "task")
        log.warning("message_refused", reason=type(exc).__name__, task=task, queue=_queue(message))
        self._refuse(message, exc)

    def _refuse(self, message: Any, exc: Exception | None = None) -> None:  # noqa: ANN401 - kombu's
        message.reject_log_error(_celery_log, self.connection_errors)
        signals.task_rejected.send(sender=self, message=message, exc=exc)


def _header(message: Any, name: str) -> str | None:  # noqa: ANN401 - kombu's
    """Return a shortened header, or None for other values, which may be content."""
    value = (message.headers or {}).get(name)
    return value[:MOST_SHOWN_CHARACTERS] if isinstance(value, str) else None


def _queue(message: Any) -> str | None:  # noqa: ANN401 - kombu's
    queue: str | None = (message.delivery_info or {}).get("routing_key")
    return queue
