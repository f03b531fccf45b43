"""Splits a server-sent event stream into events' data, unparsed. Pure.

Comment lines (heartbeats) yield nothing. Pieces of a line are joined once, because a read may end anywhere.
"""

LINE_BYTES = 48
"""Memory per line besides its bytes, so that empty lines count."""


class EventTooLargeError(Exception):
    """An event or line exceeds the size limit."""


class EventDecoder:
    """Returns the data of each event that arriving bytes complete."""

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
        """Return the data of completed events. Raises EventTooLargeError."""
        first, *others = part.split(b"\n")
        if not others:
            self._rest += first
            self._check(len(self._rest))
            return []
        lines = [bytes(self._rest) + first, *others[:-1]] if self._rest else [first, *others[:-1]]
        self._rest = bytearray(others[-1])
        return [event for line in lines if (event := self._line(line.removesuffix(b"\r"))) is not None]

    def finish(self) -> list[bytes]:
        """Return a last event that lacks its blank line."""
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
            raise EventTooLargeError("The stream carries an event that is larger than an answer may be.")
