"""What the embedded servers have in common: one child process over one home folder, with a log and a pid file."""

import signal
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import ClassVar, Self

from stack.children import OURSELVES, RunAs, end, end_leftover, remember, spawn
from stack.home import Home

STOP_SECONDS = 30.0


class EmbeddedServer(ABC):
    """A server as a child of this process. `env` is added to the minimal environment that it gets."""

    name: ClassVar[str]
    stop_signal: ClassVar[signal.Signals]

    def __init__(self, home: Home, env: Mapping[str, str] | None) -> None:
        self._home = home
        self._more_env = dict(env or {})
        self._log = home.log_path(self.name)
        self._pid_file = home.run / f"{self.name}.pid"
        self.process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def start(self) -> None:
        """Start, and return when it answers. Raises ServerFailed."""

    @contextmanager
    def running(self) -> Iterator[Self]:
        """Start, wait until it answers, and stop at the end."""
        try:
            self.start()
            yield self
        finally:
            self.stop()

    def stop(self) -> None:
        """Stop it if it runs. Safe to call twice."""
        if self.process is not None:
            end(self.process, stop_signal=self.stop_signal, grace_seconds=STOP_SECONDS)
            self.process = None
            self._pid_file.unlink(missing_ok=True)

    def _end_leftover(self) -> None:
        end_leftover(self._pid_file, stop_signal=self.stop_signal)

    def _spawn(self, argv: Sequence[str], env: Mapping[str, str], run_as: RunAs = OURSELVES) -> subprocess.Popen[bytes]:
        whole_env = {**env, **self._more_env}
        self.process = spawn(argv, env=whole_env, log_path=self._log, death_signal=self.stop_signal, run_as=run_as)
        remember(self.process, self._pid_file)
        return self.process
