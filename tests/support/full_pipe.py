"""A pipe that is full and that nobody reads: whoever writes to it blocks for ever."""

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def full_pipe() -> Iterator[int]:
    """The end to write to."""
    reader, writer = os.pipe()
    try:
        os.set_blocking(writer, False)
        try:
            while True:
                os.write(writer, b"." * 512)
        except BlockingIOError:
            os.set_blocking(writer, True)  # whoever inherits it waits
        yield writer
    finally:
        os.close(reader)
        os.close(writer)
