"""Splits a server-sent event stream into the data of its events. Pure; does not parse it.

Comment lines are the server's heartbeat and yield nothing. A read may end within a line, even after each byte; pieces
of a line are joined once, when it ends.
"""

LINE_BYTES = 48
"""Memory of one line of an event besides its bytes, so that empty lines count as well."""


class EventTooLargeError(Exception):
    """An event, or a line of one, exceeds the size limit."""


class EventDecoder:
    """Takes bytes as they arrive and returns the data of each complete event."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._rest = bytearray()
        self._data: list[bytes] = []
        self._data_bytes = 0

    @property
    def held_bytes(self) -> int:
        """Bytes of the incomplete event."""
        return len(self._rest) + self._data_bytes

    def feed(self, part: bytes) -> list[bytes]:
        """Return the data of all events that these bytes complete. Raises EventTooLargeError."""
        first, *others = part.split(b"\n")
        if not others:
            self._rest += first
            self._check(len(self._rest))
            return []
        lines = [bytes(self._rest) + first, *others[:-1]] if self._rest else [first, *others[:-1]]
        self._rest = bytearray(others[-1])
        return [event for line in lines if (event := self._line(line.removesuffix(b"\r"))) is not None]

    def finish(self) -> list[bytes]:
        """Return the data of a last event that lacks its blank line."""
        return self.feed(b"\n\n")

    def _line(self, line: bytes) -> bytes | None:
        if not line:
            event, self._data, self._data_bytes = self._data, [], 0
            return b"\n".join(event) if event else None
        name, _, value = line.partition(b":")
        if name == b"data":
            self._data_bytes += len(value) + LINE_BYTES
            self._check(self._data_bytes)
            self._data.append(value.removeprefix(b" "))
        return None

    def _check(self, size: int) -> None:
        if size > self._most_bytes:
            raise EventTooLargeError
