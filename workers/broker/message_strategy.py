"""What happens to a message between the broker and its task. Main thread.

Prompts are taken out of what Celery shows of a message (events, Flower, `inspect`), and what Celery would do on its
own before our task could refuse it (eta, countdown) is turned into a note for the task.
"""

from collections.abc import Callable, MutableMapping
from typing import Any

from celery.exceptions import InvalidTaskError
from celery.worker.request import Request
from celery.worker.strategy import default

from tasks.dispatch.publisher import HIDDEN_ARGUMENTS

ETA_NOTE = "penstock_eta"
"""Header that says that the caller wanted its message to wait."""

SIZE_NOTE = "penstock_size_bytes"
"""Header that says how much came over the wire, whatever the sender wrote there."""


class ClosedRequest(Request):  # type: ignore[misc]  # Celery ships no types
    """A request whose arguments are shown to nobody."""

    def info(self, safe: bool = False) -> dict[str, Any]:  # noqa: ARG002, FBT001, FBT002 - Celery's signature
        """Describe the request to `inspect` and Flower, never with its arguments."""
        described: dict[str, Any] = super().info(safe=True)
        return described


def strategy(task: Any, app: Any, consumer: Any) -> Callable[..., Any]:  # noqa: ANN401 - Celery's objects
    """Celery's default strategy behind a glance at the headers. Named by the tasks' `Strategy`."""
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
