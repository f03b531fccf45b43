"""Runs the simulator as a benchmark's provider, in a process with its own clock."""

import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from schemas.errors import PenstockError
from stack.home import free_port


@contextmanager
def provider(words: Sequence[str], env: Mapping[str, str]) -> Iterator[int]:
    """Start the simulator; yields its port. Raises PenstockError where it does not listen."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "simulator", "--port", str(port), "--die-with-parent", *words],
        env=dict(env),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        if "listening" not in process.stdout.readline() or port is None:
            raise PenstockError("the provider of the benchmark did not start")
        yield port
    finally:
        process.terminate()
        process.communicate()
