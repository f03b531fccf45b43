"""What the embedded servers have in common: one child process over one home folder, with a log and a pid file."""

import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import ClassVar, Self

from stack.children import OURSELVES, POLL_SECONDS, RunAs, ServerFailed, end, end_leftover, last_lines, remember, spawn
from stack.home import Home

START_TRIES = 10
RETRY_PAUSE_SECONDS = 0.3
STOP_SECONDS = 30.0


class EmbeddedServer(ABC):
    """A server as a child of this process. `env` is added to the minimal environment that it gets."""

    name: ClassVar[str]
    stop_signal: ClassVar[signal.Signals]
    ready_seconds: ClassVar[float]

    def __init__(self, home: Home, *, env: Mapping[str, str] | None = None) -> None:
        self._home = home
        self._more_env = dict(env or {})
        self._pid_file = home.run / f"{self.name}.pid"
        self.log_path = home.log_path(self.name)
        self.port = 0
        self.process: subprocess.Popen[bytes] | None = None

    @property
    @abstractmethod
    def url(self) -> str:
        """The application's address with its password."""

    @abstractmethod
    def launch(self) -> subprocess.Popen[bytes]:
        """Start or restart the process and return at once."""

    @abstractmethod
    def _is_ours(self) -> bool | None:
        """Ask whether our server has the port; None without an answer."""

    @contextmanager
    def running(self) -> Iterator[Self]:
        """Start, wait until it answers, and stop at the end."""
        try:
            self.start()
            yield self
        finally:
            self.stop()

    def start(self) -> None:
        """Start on the last port or a new one, and wait for an answer. Raises ServerFailed."""
        self._end_leftover()  # before choosing a port: it may still hold ours
        for _ in range(START_TRIES):
            self.port = self._home.port_for(self.name)
            if self._answers(self.launch()):
                return
            self.stop()  # the port was taken meanwhile, or a dying predecessor still listens
            time.sleep(RETRY_PAUSE_SECONDS)  # or holds the shared memory for a moment
        name, log = self.name.capitalize(), last_lines(self.log_path)
        raise ServerFailed(f"{name} did not start; the end of {self.log_path}:\n{log}")

    def stop(self) -> None:
        """Stop it if it runs. Safe to call twice."""
        if self.process is not None:
            end(self.process, stop_signal=self.stop_signal, grace_seconds=STOP_SECONDS)
            self.process = None
            self._pid_file.unlink(missing_ok=True)

    def _answers(self, process: subprocess.Popen[bytes]) -> bool:
        give_up_at = time.monotonic() + self.ready_seconds
        while process.poll() is None and time.monotonic() < give_up_at:
            is_ours = self._is_ours()
            if is_ours is not None:
                return is_ours and process.poll() is None
            time.sleep(POLL_SECONDS)
        return False

    def _end_leftover(self) -> None:
        end_leftover(self._pid_file, stop_signal=self.stop_signal)

    def _spawn(self, argv: Sequence[str], env: Mapping[str, str], run_as: RunAs = OURSELVES) -> subprocess.Popen[bytes]:
        whole_env = {**env, **self._more_env}
        self.process = spawn(argv, env=whole_env, log_path=self.log_path, death_signal=self.stop_signal, run_as=run_as)
        remember(self.process, self._pid_file)
        return self.process
