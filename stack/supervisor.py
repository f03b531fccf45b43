"""Restarts processes that end, with growing pauses, and stops all in order.

launched ──ends──▶ backing off ──pause over──▶ launched        stop: rank 0 first, then 1, …; each rank gets its
    └── stays up HEALTHY_SECONDS: pauses begin small again           grace, then its whole process group is killed
"""

import os
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from signal import SIGALRM, SIGTERM, Signals

from stack.children import end, kill_group, last_lines
from stack.home import Home
from stack.logs import Tails, bound
from stack.signals import SignalWaiter
from stack.status import Phase, ProcessState, ProcessStatus, StackStatus, write_status

FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 10.0
LONGEST_SIGNALLED_PAUSE_SECONDS = 1.0
"""Longest pause after an end by a signal: one request that kills its process repeatedly must not delay others by ten
seconds."""

HEALTHY_SECONDS = 10.0
GRACE_SECONDS = 30.0
LOOK_SECONDS = 1.0  # SIGCHLD reports ends; this interval is for growing logs
FOLLOW_SECONDS = 0.1

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Service:
    """How to run one process. Lower ranks stop first; `launch` returns at once."""

    name: str
    launch: Callable[[], subprocess.Popen[bytes]]
    log_path: Path
    stop_signal: Signals = SIGTERM
    rank: int = 0


@dataclass(kw_only=True)
class Watch:
    """The state of one service. `now` is monotonic, `up_since` is wall-clock time."""

    service: Service
    process: subprocess.Popen[bytes] | None = None
    launched_at: float = 0.0
    up_since: float | None = None
    start_at: float = 0.0
    failures: int = 0
    restarts: int = -1  # the first launch is not a restart

    def is_due(self, now: float) -> bool:
        """Whether it is time to launch."""
        return self.process is None and now >= self.start_at

    def launch(self, now: float) -> None:
        """Launch the process."""
        self.process = self.service.launch()
        self.launched_at, self.up_since = now, time.time()
        self.restarts += 1

    def back_off(self, now: float, exit_status: int = 0) -> float:
        """Record the process's end; return the seconds until the next launch."""
        if self.process is not None:
            kill_group(self.process.pid)
        self.failures = 1 if now - self.launched_at >= HEALTHY_SECONDS else self.failures + 1
        pause_seconds = pause_after(self.failures, signalled=exit_status < 0)
        self.process, self.up_since, self.start_at = None, None, now + pause_seconds
        return pause_seconds

    def status(self, *, stopping: bool) -> ProcessStatus:
        """Return the current status."""
        idle: ProcessState = "stopped" if stopping else "backing_off"
        return ProcessStatus(
            name=self.service.name,
            pid=None if self.process is None else self.process.pid,
            state=idle if self.process is None else "running",
            restarts=max(self.restarts, 0),
            up_since=self.up_since,
        )


def pause_after(failures: int, *, signalled: bool = False) -> float:
    """Return the pause in seconds: 0.2, 0.4, 0.8, … up to 10, or 1 after a signal."""
    doublings = min(failures - 1, 16)
    longest_seconds = LONGEST_SIGNALLED_PAUSE_SECONDS if signalled else LONGEST_PAUSE_SECONDS
    return min(FIRST_PAUSE_SECONDS * 2.0**doublings, longest_seconds)


def words_for(exit_status: int) -> str:
    """Describe an exit status."""
    if exit_status >= 0:
        return str(exit_status)
    try:
        name = Signals(-exit_status).name
    except ValueError:  # a real-time signal has no name
        return f"signal {-exit_status}"
    return f"{name}, from its watchdog: its loop stood still" if -exit_status == SIGALRM else name


class Supervisor:
    """Keeps services alive until a stop signal, then stops them in order."""

    def __init__(self, home: Home, *, signals: SignalWaiter, say: Say, follow: bool = False) -> None:
        self._home = home
        self._signals = signals
        self._say = say
        self._follow = follow
        self._watches: list[Watch] = []
        self._tails = Tails({})
        self._started_at = time.time()

    def adopt(self, service: Service, process: subprocess.Popen[bytes]) -> None:
        """Keep a running process alive."""
        watch = Watch(service=service, process=process, launched_at=time.monotonic(), up_since=time.time(), restarts=0)
        self._watches.append(watch)
        self._publish("starting")

    def run_once(self, service: Service) -> int:
        """Run a command and return its exit status; a stop signal ends it."""
        tails = Tails({service.name: service.log_path})
        process = service.launch()
        while (status := process.poll()) is None and not self._signals.stops_requested:
            self._signals.wait(FOLLOW_SECONDS)
            self._show(tails)
        if status is None:
            status = end(process, stop_signal=service.stop_signal, grace_seconds=GRACE_SECONDS)
        self._show(tails)
        return status

    def run(self, services: Sequence[Service]) -> None:
        """Launch the services and keep all alive until a stop signal has ended them."""
        self._watches += [Watch(service=service) for service in services]
        self._tails = Tails({watch.service.name: watch.service.log_path for watch in self._watches})
        try:
            while not self._signals.stops_requested:
                self._look(time.monotonic())
                self._show(self._tails)
                self._signals.wait(self._pause_seconds(time.monotonic()))
        finally:
            self.stop()

    def stop(self) -> None:
        """Stop everything by rank; a second stop signal ends the grace. Safe to call twice."""
        self._publish("stopping")
        for rank in sorted({watch.service.rank for watch in self._watches}):
            self._stop_rank([watch for watch in self._watches if watch.service.rank == rank])
        self._show(self._tails)

    def _look(self, now: float) -> None:
        changed = False
        for watch in self._watches:
            exit_status = None if watch.process is None else watch.process.poll()
            if exit_status is not None:
                changed = True
                self._report_end(watch, exit_status, watch.back_off(now, exit_status))
            if watch.is_due(now):
                changed = True
                self._launch(watch, now)
            bound(watch.service.log_path)
        if changed:
            self._publish("running")

    def _launch(self, watch: Watch, now: float) -> None:
        try:
            watch.launch(now)
        except OSError as trouble:  # no memory or no process left for now: the others must stay alive
            self._say(f"{watch.service.name} could not be started: {trouble}")
            watch.back_off(now)

    def _report_end(self, watch: Watch, exit_status: int, pause_seconds: float) -> None:
        self._say(
            f"{watch.service.name} ended with {words_for(exit_status)}; starting it again in {pause_seconds:.1f} s"
        )
        if watch.failures > 1 and not self._follow:
            self._say(last_lines(watch.service.log_path, count=5))

    def _stop_rank(self, watches: Sequence[Watch]) -> None:
        running = [(watch, watch.process) for watch in watches if watch.process is not None]
        stops_before = self._signals.stops_requested
        for watch, process in running:
            process.send_signal(watch.service.stop_signal)  # does nothing once the process has ended
        give_up_at = time.monotonic() + GRACE_SECONDS
        while any(process.poll() is None for _, process in running):
            if time.monotonic() >= give_up_at or self._signals.stops_requested > max(stops_before, 1):
                break
            self._signals.wait(FOLLOW_SECONDS)
            self._show(self._tails)
        for watch, process in running:
            if process.poll() is None:
                self._say(f"{watch.service.name} did not stop in time and was killed")
            kill_group(process.pid)
            process.wait()
            watch.process, watch.up_since = None, None
        self._publish("stopping")

    def _pause_seconds(self, now: float) -> float:
        starts = [watch.start_at - now for watch in self._watches if watch.process is None]
        return min([FOLLOW_SECONDS if self._follow else LOOK_SECONDS, *starts])

    def _show(self, tails: Tails) -> None:
        if self._follow:
            for line in tails.fresh_lines():
                self._say(line)

    def _publish(self, phase: Phase) -> None:
        status = StackStatus(
            pid=os.getpid(),
            phase=phase,
            started_at=self._started_at,
            processes=tuple(watch.status(stopping=phase == "stopping") for watch in self._watches),
        )
        write_status(self._home, status)
