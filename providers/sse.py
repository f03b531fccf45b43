"""Bytes of a server-sent event stream become the data of its events. Pure; knows nothing of what they say.

Comment lines are the server's heartbeat and yield nothing. Lines may be cut anywhere between two reads.
"""


class EventDecoder:
    """Fed with bytes as they arrive, gives the data of each event that is complete."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []

    def feed(self, part: bytes) -> list[bytes]:
        """The data of all events that these bytes complete."""
        *lines, self._rest = (self._rest + part).split(b"\n")
        return [event for line in lines if (event := self._line(line.removesuffix(b"\r"))) is not None]

    def finish(self) -> list[bytes]:
        """The data of a last event whose blank line never came."""
        return self.feed(b"\n\n")

    def _line(self, line: bytes) -> bytes | None:
        if not line:
            event, self._data = self._data, []
            return b"\n".join(event) if event else None
        name, _, value = line.partition(b":")
        if name == b"data":
            self._data.append(value.removeprefix(b" "))
        return None
