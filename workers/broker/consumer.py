"""Celery's consumer, which says of a message that nobody can read what it is, and not what is in it.

Such a message is logged with its task's name, acknowledged or rejected, and forgotten: it never ends the worker, and
its body, which may be somebody's prompt, is not logged as Celery would. A broker that lets us in and then refuses what
we ask, as one that was demoted does, is waited for in the same way: said once, and neither hammered nor given up.
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
"""Of a task's name, in a log."""

REFUSED_PAUSE_SECONDS = 1.0
"""Before a broker that refused is asked again: connecting to it succeeds at once, and would each time."""


class Strategies(dict[str, Any]):
    """What to do with a task, by its name; whatever is no name is the name of none."""

    def __getitem__(self, name: Any) -> Any:  # noqa: ANN401 - somebody's JSON
        """Raises KeyError, also where Celery would stumble over a list or an object."""
        if not isinstance(name, str):
            raise KeyError(type(name).__name__)
        return super().__getitem__(name)


class Consumer(consumer.Consumer):  # type: ignore[misc]  # Celery ships no types
    """Selected by `worker_consumer`."""

    Strategies = Strategies
    _is_refused = False

    def on_connection_error_before_connected(self, exc: Exception) -> None:
        """Wait for a broker that refuses; what cannot be reached at all is Celery's own matter."""
        if not isinstance(exc, self.channel_errors):
            super().on_connection_error_before_connected(exc)
            return
        if not self._is_refused:
            log.warning("broker_refuses", reason=str(exc))
        self._is_refused = True
        time.sleep(REFUSED_PAUSE_SECONDS)

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Celery's, and the next refusal is news."""
        self._is_refused = False
        super().on_connection_error_after_connected(exc)

    def on_unknown_message(self, body: Any, message: Any) -> None:  # noqa: ANN401, ARG002 - Celery's
        """Refuse what is no task message at all."""
        log.warning("message_refused", reason="no task message", queue=_queue(message))
        self._refuse(message)

    def on_unknown_task(self, body: Any, message: Any, exc: Exception) -> None:  # noqa: ANN401, ARG002 - Celery's
        """Refuse a task that we do not have."""
        name, task_id = _word(message, "task"), _word(message, "id")
        log.warning("message_refused", reason="unknown task", task=name, task_id=task_id, queue=_queue(message))
        message.reject_log_error(_celery_log, self.connection_errors)
        signals.task_unknown.send(sender=self, message=message, exc=exc, name=name, id=task_id)

    def on_invalid_task(self, body: Any, message: Any, exc: Exception) -> None:  # noqa: ANN401, ARG002 - Celery's
        """Refuse an envelope that is not whole."""
        task = _word(message, "task")
        log.warning("message_refused", reason="invalid envelope", task=task, queue=_queue(message))
        self._refuse(message, exc)

    def on_decode_error(self, message: Any, exc: Exception) -> None:  # noqa: ANN401 - Celery's
        """Refuse what is not JSON."""
        task = _word(message, "task")
        log.warning("message_refused", reason=type(exc).__name__, task=task, queue=_queue(message))
        self._refuse(message, exc)

    def _refuse(self, message: Any, exc: Exception | None = None) -> None:  # noqa: ANN401 - kombu's
        message.reject_log_error(_celery_log, self.connection_errors)
        signals.task_rejected.send(sender=self, message=message, exc=exc)


def _word(message: Any, name: str) -> str | None:  # noqa: ANN401 - kombu's
    """A header that is a name; anything else in its place may be anybody's content."""
    value = (message.headers or {}).get(name)
    return value[:MOST_SHOWN_CHARACTERS] if isinstance(value, str) else None


def _queue(message: Any) -> str | None:  # noqa: ANN401 - kombu's
    queue: str | None = (message.delivery_info or {}).get("routing_key")
    return queue
