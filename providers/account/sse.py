"""Bytes of a server-sent event stream become the data of its events. Pure; knows nothing of what they say.

Comment lines are the server's heartbeat and yield nothing. Lines may be cut anywhere between two reads, also after each
byte: pieces of a line are joined once, when it ends.
"""

LINE_BYTES = 48
"""What a line of an event takes besides its bytes, so that empty ones count as well."""


class EventTooLargeError(Exception):
    """An event, or a line of it, is larger than any may be."""


class EventDecoder:
    """Fed with bytes as they arrive, gives the data of each event that is complete."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._rest = bytearray()
        self._data: list[bytes] = []
        self._data_bytes = 0

    @property
    def held_bytes(self) -> int:
        """Bytes of an event that is not complete."""
        return len(self._rest) + self._data_bytes

    def feed(self, part: bytes) -> list[bytes]:
        """The data of all events that these bytes complete. Raises EventTooLargeError."""
        first, *others = part.split(b"\n")
        if not others:
            self._rest += first
            self._check(len(self._rest))
            return []
        lines = [bytes(self._rest) + first, *others[:-1]] if self._rest else [first, *others[:-1]]
        self._rest = bytearray(others[-1])
        return [event for line in lines if (event := self._line(line.removesuffix(b"\r"))) is not None]

    def finish(self) -> list[bytes]:
        """The data of a last event whose blank line never came."""
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
