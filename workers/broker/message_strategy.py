"""Prepares each message before Celery handles it. Main thread.

Events, Flower and `inspect` show no prompts. Celery would obey an eta or countdown before our task can refuse it, so
both become a header.
"""

from collections.abc import Callable, MutableMapping
from typing import Any

from celery.exceptions import InvalidTaskError
from celery.worker.request import Request
from celery.worker.strategy import default

from tasks.dispatch.publisher import HIDDEN_ARGUMENTS

ETA_NOTE = "penstock_eta"
"""Header that marks a message with an eta or countdown."""

SIZE_NOTE = "penstock_size_bytes"
"""Header with the received size; overwrites the sender's."""


class ClosedRequest(Request):  # type: ignore[misc]  # Celery ships no types
    """A request that hides its arguments."""

    def info(self, safe: bool = False) -> dict[str, Any]:  # noqa: ARG002, FBT001, FBT002 - Celery's signature
        """Describe the request to `inspect` and Flower."""
        described: dict[str, Any] = super().info(safe=True)
        return described


def strategy(task: Any, app: Any, consumer: Any) -> Callable[..., Any]:  # noqa: ANN401 - Celery's objects
    """Return Celery's default strategy with our header changes. Named by the tasks' `Strategy`."""
    take = default(task, app, consumer)

    def look_and_take(message: Any, body: Any, *rest: Any) -> Any:  # noqa: ANN401 - kombu's objects
        try:
            _look(message.headers, message.body)
            return take(message, body, *rest)
        except (
            AttributeError,
            KeyError,
            TypeError,
            ValueError,
        ) as error:  # a KeyError would count as a lost connection
            raise InvalidTaskError(f"{type(error).__name__} in the envelope") from error

    return look_and_take


def _look(headers: MutableMapping[str, Any], body: bytes | str) -> None:
    headers[SIZE_NOTE] = len(body)
    headers["argsrepr"] = headers["kwargsrepr"] = HIDDEN_ARGUMENTS
    if headers.get("eta") is not None:
        headers["eta"], headers[ETA_NOTE] = None, True
