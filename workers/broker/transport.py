"""Extends kombu's Redis transport.

One client per channel instead of per acknowledgement gives 1.2 to 1.4 times the messages. kombu takes a BRPOP that
CLIENT UNBLOCK ended for an empty one; where CLIENT is forbidden, the BRPOP blocks for up to 1 s.
"""

from contextlib import suppress
from queue import Empty
from typing import Any

import structlog
from celery.app.amqp import AMQP
from celery.utils.dispatch import Signal
from kombu.connection import Connection
from kombu.transport import redis
from kombu.transport.virtual.base import Message

log = structlog.get_logger()

unreadable_item = Signal(name="unreadable_item", providing_args={"reason"})
"""Sent for each dropped list item; `reason` is the error's class."""


class UnreadableItemError(Exception):
    """kombu could not read a list item."""


class LaneMessage(Message):
    """A message with a checked envelope."""

    def __init__(self, payload: Any, channel: Any = None, **more: Any) -> None:  # noqa: ANN401 - kombu's
        """Raises UnreadableItemError, and nothing else, for an item that cannot be read."""
        try:
            super().__init__(payload, channel=channel, **more)  # type: ignore[no-untyped-call]
            _check_envelope(self)
        except Exception as error:  # nothing but parsing happens here
            raise UnreadableItemError(type(error).__name__) from error


def _check_envelope(message: Any) -> None:  # noqa: ANN401 - kombu's
    """Raise where kombu or Celery would fail later, on an unacknowledged message."""
    info = message.delivery_info
    parts = (message.delivery_tag, info["exchange"], info["routing_key"])
    if not all(isinstance(part, str) for part in parts) or not message.delivery_tag:
        raise TypeError("an envelope without a tag or an address")
    if not isinstance(message.headers, dict) or not isinstance(message.body, bytes | str):
        raise TypeError("an envelope without headers or a body")
    for part in (message.content_type, message.content_encoding):
        if not isinstance(part, str | None):
            raise TypeError("an envelope whose content has no type")


class LaneChannel(redis.Channel):
    """Reads lanes with BRPOP. Consumer thread only.

    An unreadable item is dropped, because BRPOP has removed it and an exception would end the worker.
    """

    Message = LaneMessage
    _shared_client: Any = None
    _identified_socket: Any = None
    _connection_id: int | None = None

    def ask_again(self) -> None:
        """End a BRPOP, so that the next asks all lanes with room."""
        if self._in_poll and self._connection_id is not None:
            with suppress(*self.connection_errors):  # the consumer notices a lost connection by itself
                try:
                    self._create_client().client_unblock(self._connection_id)
                except self.ResponseError as refusal:
                    self._connection_id = None
                    self._go_without(refusal)

    def lying(self, queue: str) -> int:
        """Count queued messages; 0 if the connection is lost."""
        with suppress(*self.connection_errors):
            return int(self._create_client().llen(queue))
        return 0

    def _create_client(self, asynchronous: bool = False) -> Any:  # noqa: ANN401, FBT001, FBT002 - kombu's signature
        if asynchronous:
            return super()._create_client(asynchronous=True)  # type: ignore[no-untyped-call]
        if self.connection is None or self.connection.client is None:  # kombu would fail on an attribute of None,
            raise ConnectionResetError("the broker's connection was closed")  # which ends the worker
        if self._shared_client is None or self._shared_client.connection_pool is not self.pool:
            self._shared_client = super()._create_client()  # type: ignore[no-untyped-call]
        return self._shared_client

    def _brpop_start(self, timeout: float | None = None) -> None:
        connection = self.client.connection
        if connection._sock is not self._identified_socket:  # noqa: SLF001 - kombu looks there too
            self._connection_id = self._identify(connection)
            self._identified_socket = connection._sock  # noqa: SLF001
        super()._brpop_start(timeout)  # type: ignore[no-untyped-call]

    def _brpop_read(self, **options: Any) -> Any:  # noqa: ANN401 - kombu's
        before = self.connection.deliveries
        try:
            return super()._brpop_read(**options)  # type: ignore[no-untyped-call]
        except UnreadableItemError as error:
            unreadable_item.send(sender=self, reason=str(error))
        except (Empty, *self.connection_errors, *self.connection.channel_errors):
            raise
        except Exception as error:
            if self.connection.deliveries != before:
                raise  # the item was read: the error has another cause
            unreadable_item.send(sender=self, reason=type(error).__name__)
        return True

    def _identify(self, connection: Any) -> int | None:  # noqa: ANN401 - redis-py's
        connection.send_command("CLIENT", "ID")
        try:
            return int(connection.read_response())
        except self.ResponseError as refusal:
            self._go_without(refusal)
            return None

    def _go_without(self, refusal: Exception) -> None:
        log.warning("client_command_refused", consequence="a full worker may idle up to 1 s", reason=str(refusal))


class LaneTransport(redis.Transport):
    """kombu's Redis transport with our channel."""

    Channel = LaneChannel
    deliveries = 0
    """Delivered items, which were valid JSON."""

    def _deliver(self, message: Any, queue: str) -> None:  # noqa: ANN401 - kombu's
        self.deliveries += 1
        super()._deliver(message, queue)  # type: ignore[no-untyped-call]


class LaneConnection(Connection):
    """A connection with our transport for `redis://`."""

    def get_transport_cls(self) -> Any:  # noqa: ANN401 - a class of kombu's
        """Return our transport for Redis, else kombu's."""
        chosen = super().get_transport_cls()  # type: ignore[no-untyped-call]
        return LaneTransport if chosen is redis.Transport else chosen


class LaneAMQP(AMQP):  # type: ignore[misc]  # Celery ships no types
    """Creates our connections. Named by `amqp_cls`."""

    Connection = LaneConnection
