"""A pipe that is full and that nobody reads: whoever writes to it blocks for ever."""

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def full_pipe(*, room_bytes: int = 0) -> Iterator[int]:
    """The end to write to. `room_bytes` are whole pages that are still free."""
    reader, writer = os.pipe()
    try:
        os.set_blocking(writer, False)
        try:
            while True:
                os.write(writer, b"." * 4_096)
        except BlockingIOError:
            os.set_blocking(writer, True)  # whoever inherits it waits
        if room_bytes:
            os.read(reader, room_bytes)
        yield writer
    finally:
        os.close(reader)
        os.close(writer)
