"""A whole running stack with two tenants, for trials of what one does to the other.

`a` is the culprit, `b` the bystander. Everything that either says carries a marker, and no log may hold one.
"""

import asyncio
import os
import re
import threading
import time
import uuid
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cli.client.address import Address
from cli.client.http import ApiClient
from stack.status import read_status
from tests.support.simulator_process import SimulatorProcess
from tests.support.stack_process import StackProcess

PROMPT_MARKER, REPLY_MARKER = f"prompt-{uuid.uuid4().hex}", f"reply-{uuid.uuid4().hex}"
"""Stand in every prompt and reply of the trials."""

LEASES = {"PENSTOCK_LEASE_SECONDS": "15", "PENSTOCK_HEARTBEAT_SECONDS": "4"}
"""The defaults. Shorter ones, as in other tests, run out while a process is as busy as in a trial; these outlast
the watchdog, which says whose work it ended before anybody is rescued."""

SAMPLE_SECONDS = 0.05
LOOK_SECONDS = 0.1
MIB = 1024 * 1024
AT_REST = ("completed", "dead", "cancelled", "expired")
ESTABLISHED = "01"
"""A state of a socket in /proc/net/tcp."""

CONFIG = """\
[models."gpt-4.1-mini"]
requests_per_minute = 600000
[aliases]
small = ["gpt-4.1-mini"]
"""
"""No budget and no tokens_per_minute: either refuses an absurd output limit, and a trial of odd values must send it."""


@dataclass(frozen=True, kw_only=True)
class JobEnd:
    """How a job stands in Postgres."""

    id: str
    state: str
    dead_reason: str | None
    message: str | None


@dataclass(frozen=True, kw_only=True)
class TrialStack:
    """The stack, its provider, and the keys of two tenants by name."""

    stack: StackProcess
    provider: SimulatorProcess
    keys: Mapping[str, str] = field(repr=False)

    @classmethod
    @contextmanager
    def started(
        cls, home: Path, *, config: str = CONFIG, env: Mapping[str, str] | None = None, descriptors: int | None = None
    ) -> Iterator["TrialStack"]:
        """Start the provider and `penstock up`, and create the keys."""
        with (
            SimulatorProcess.start(requests_per_minute=0, tokens_per_minute=0) as provider,
            StackProcess.started(
                home, provider=provider, config=config, env=LEASES | dict(env or {}), descriptors=descriptors
            ) as stack,
        ):
            keys = {name: stack.api.post("keys", body={"tenant_id": name})["key"] for name in ("a", "b")}
            yield cls(stack=stack, provider=provider, keys=keys)

    @property
    def url(self) -> str:
        return self.stack.url

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def api(self, tenant: str) -> ApiClient:
        """The native resources as a tenant."""
        return ApiClient(Address(url=self.url, key=self.keys[tenant]))

    def paid(self) -> dict[str, int]:
        """How often each script was called since the provider started."""
        found: dict[str, int] = self.provider.ask("GET", "/meter/scripts")
        return found

    def ends(self, ids: list[str]) -> dict[str, JobEnd]:
        """The state of these jobs."""
        query = "SELECT id, state, dead_reason, message FROM jobs WHERE id = ANY(%s)"
        return {row["id"]: JobEnd(**row) for row in self.stack.rows(query, ids)}

    async def at_rest(self, ids: list[str], *, within_seconds: float) -> dict[str, JobEnd]:
        """Wait for these jobs, and return how they ended; those that did not are among them as they stand."""

        async def all_rest() -> bool:
            found = await asyncio.to_thread(self.ends, ids)
            return all(end.state in AT_REST for end in found.values())

        await eventually(all_rest, within_seconds=within_seconds)
        return self.ends(ids)

    def pid(self, name: str) -> int:
        """The process id under which a process runs now; 0 while it is being started again."""
        return self.stack.named(name).pid or 0

    def restarts(self) -> dict[str, int]:
        """How often the supervisor has started each process again."""
        status = read_status(self.stack.home)
        assert status is not None
        return {process.name: process.restarts for process in status.processes}

    def still_open(self, ports: Collection[int]) -> int:
        """How many connections from these ports the HTTP door holds, those included that it has not accepted yet."""
        here, there = f":{self.port:04X}", {f"{port:04X}" for port in ports}
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        return sum(
            local.endswith(here) and state == ESTABLISHED and remote.rpartition(":")[2] in there
            for _, local, remote, state, *_ in rows
        )

    def log_sizes(self) -> dict[Path, int]:
        """How long each log is now."""
        return {path: path.stat().st_size for path in self.log_paths()}

    def logs_with(self, text: str, *, since: Mapping[Path, int]) -> list[str]:
        """Names of log files into which this text was written since they had these sizes."""
        needle = text.encode()
        return [
            str(path.relative_to(self.stack.home))
            for path, size in self.log_sizes().items()
            if needle in path.read_bytes()[since.get(path, 0) if size >= since.get(path, 0) else 0 :]
        ]

    def log_paths(self) -> list[Path]:
        """Every log of the home: the processes', the supervisor's, the servers'."""
        found = self.stack.home.rglob("*.log*")
        return [path for path in found if path.is_file()]

    def worst_loop_delay_ms(self, name: str, *, since: Mapping[Path, int]) -> int:
        """The worst delay of its loop that a process has logged since; it logs none below 250 ms."""
        path = self.stack.home / "logs" / f"{name}.log"
        text = path.read_bytes()[since.get(path, 0) :].decode(errors="replace")
        worst = [int(found) for found in re.findall(r"loop_delayed\D*?worst_ms\D{1,4}(\d+)", text)]
        return max(worst, default=0)


@dataclass
class Memory:
    """Samples the resident memory of processes while it is entered; `above_idle` is the most beyond the start."""

    pids: Mapping[str, int]
    idle: dict[str, int] = field(default_factory=dict)
    peak: dict[str, int] = field(default_factory=dict)
    _over: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self.idle = {name: resident_bytes(pid) for name, pid in self.pids.items()}
        self.peak = dict(self.idle)
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        assert self._thread is not None
        self._thread.join()

    def above_idle_mib(self, name: str) -> float:
        return (self.peak[name] - self.idle[name]) / MIB

    def _sample(self) -> None:
        while not self._over.wait(SAMPLE_SECONDS):
            for name, pid in self.pids.items():
                self.peak[name] = max(self.peak[name], resident_bytes(pid))


def resident_bytes(pid: int) -> int:
    """Resident memory of a process and of its children, which check what is too large for its loop."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        below = [int(word) for word in children.read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE") + sum(resident_bytes(child) for child in below)


def prompt(directive: str = "") -> list[dict[str, Any]]:
    """Messages that carry a marker and, where there is one, a script."""
    return [{"role": "user", "content": f"{PROMPT_MARKER} {directive}".strip()}]


async def eventually(question: Callable[[], Awaitable[bool]], *, within_seconds: float) -> bool:
    """Ask until the answer is yes or the time is over; return the last answer."""
    give_up_at = time.monotonic() + within_seconds
    while not (answer := await question()) and time.monotonic() < give_up_at:  # noqa: ASYNC110 - other processes
        await asyncio.sleep(LOOK_SECONDS)
    return answer
