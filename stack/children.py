"""Starts and ends child processes that must not outlive this process.

Each child leads a process group, so that Ctrl-C reaches the supervisor alone, but no session: Linux's autogroup would
make `nice` ineffective. Linux signals a child when the *thread* that started it ends; elsewhere the next start ends
orphans (`end_leftover`). Output goes to files: a pipe without a reader would stop the child.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from schemas.errors import PenstockError
from stack.home import write_private

PR_SET_PDEATHSIG = 1
LEFTOVER_GRACE_SECONDS = 10.0
POLL_SECONDS = 0.02
POLL_PART = 0.05
"""Pause between two looks, as a part of the wait so far."""


class ServerFailed(PenstockError):  # noqa: N818 - reads as what happened
    """An embedded server did not start."""

    code = "server_failed"


@dataclass(frozen=True, kw_only=True)
class RunAs:
    """User and group of a child; None means our own."""

    user: int | None = None
    group: int | None = None


OURSELVES = RunAs()


def spawn(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    log_path: Path,
    cwd: Path = Path("/"),
    death_signal: signal.Signals = signal.SIGKILL,
    run_as: RunAs = OURSELVES,
) -> subprocess.Popen[bytes]:
    """Start a child in its own group; the kernel sends it `death_signal` when we die. Main thread only."""
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("children start from the main thread: their life is tied to the thread that starts them")
    with log_path.open("ab") as log:
        return subprocess.Popen(  # noqa: S603 - the callers' commands, no shell
            list(argv),
            env=dict(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            process_group=0,
            preexec_fn=_tie_to_parent(death_signal),  # noqa: PLW1509 - only prctl and getppid run between fork and exec
            user=run_as.user,
            group=run_as.group,
            extra_groups=None if run_as.user is None else [],
        )


def _tie_to_parent(death_signal: signal.Signals) -> Callable[[], None] | None:
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    parent_pid = os.getpid()

    def tie() -> None:
        prctl(PR_SET_PDEATHSIG, int(death_signal))
        if os.getppid() != parent_pid:  # the parent died between the fork and the line above
            os._exit(1)

    return tie


def end(process: subprocess.Popen[bytes], *, stop_signal: signal.Signals, grace_seconds: float) -> int:
    """Stop a child, then kill its group; return its exit status."""
    process.send_signal(stop_signal)  # does nothing once the child has ended
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(grace_seconds)
    kill_group(process.pid)
    return process.wait()


def kill_group(leader_pid: int) -> None:
    """Kill the remaining processes of a child's group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader_pid, signal.SIGKILL)


def remember(process: subprocess.Popen[bytes], pid_file: Path) -> None:
    """Record a process, so that a later start recognises it."""
    write_private(pid_file, f"{process.pid} {birth_mark(process.pid)}")


def end_leftover(pid_file: Path, *, stop_signal: signal.Signals) -> None:
    """End the process that a dead supervisor recorded here, if it still lives."""
    try:
        pid_text, mark = pid_file.read_text(encoding="utf-8").split(" ", 1)
    except (FileNotFoundError, ValueError):
        return
    pid = int(pid_text)
    for number in (stop_signal, signal.SIGKILL):
        if mark == "" or birth_mark(pid) != mark:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        wait_until(lambda: birth_mark(pid) != mark, seconds=LEFTOVER_GRACE_SECONDS)


def birth_mark(pid: int) -> str:
    """Return when this process began, because pids are reused; empty after its end."""
    stat = Path(f"/proc/{pid}/stat")
    if Path("/proc/self/stat").exists():
        try:
            fields = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return ""
        return "" if fields[0] in ("Z", "X") else fields[19]
    listed = subprocess.run(  # noqa: S603 - macOS has no /proc; the pid is a number of ours
        ["/bin/ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return listed.stdout.strip()


def wait_until(question: Callable[[], bool], *, seconds: float, pause_part: float = POLL_PART) -> bool:
    """Poll until the answer is true or the time is over; return the answer.

    The longer it has waited, the longer it pauses, `pause_part` of the wait: asking may cost a request or a connection.
    What measures the time passes 0.
    """
    started = time.monotonic()
    while not (answer := question()) and (waited := time.monotonic() - started) < seconds:
        time.sleep(min(max(POLL_SECONDS, pause_part * waited), seconds - waited))
    return answer


def last_lines(log_path: Path, *, count: int = 12) -> str:
    """Return the end of a log."""
    try:
        with log_path.open("rb") as log:
            log.seek(max(0, log_path.stat().st_size - 8_192))
            text = log.read().decode("utf-8", errors="replace")
    except FileNotFoundError:
        return "(no log)"
    return "\n".join(text.splitlines()[-count:])
