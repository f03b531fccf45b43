"""A whole stack in pieces, each of which can be killed, paused, stopped and started again by its name.

The same lines of the Procfile and the same embedded servers as `penstock up`, but nobody restarts anything here
unless the campaign asks for it. Some processes reach their stores through links, so that they can be cut off.
"""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import redis

from cli.client.address import Address
from cli.client.http import ApiClient
from stack.children import end, kill_group, last_lines, wait_until
from stack.home import Home, free_port
from stack.postgres import Postgres
from stack.process import CHECKOUT
from stack.procfile import ProcessLine, parse_procfile
from stack.supervisor import Service
from stack.up import command_service
from stack.valkey import Valkey
from tests.chaos.link import Link, link_loop
from tests.support.hanging import hang, with_hang
from tests.support.shifted_clock import ShiftedClock
from tests.support.simulator_process import SimulatorProcess

READY_SECONDS = 60.0
LINKED = ("standard-2", "upkeep-1")
"""Processes that reach Redis and Postgres through links of their own."""

SKEWED = "standard-3"
"""The worker whose clock is wrong, where a C compiler can make it so."""

SKEW_SECONDS = 3600
CRITICAL_HIGH = "completions.critical,completions.high"
PIECES = ("web", "interactive", "standard-1", "standard-2", "standard-3", "upkeep-1", "upkeep-2")

CONFIG = """\
[providers.openai]
base_url = "{url}"
[providers.kept]
base_url = "{url}"
lookup = true
[models."gpt-4.1-mini"]
provider = "kept"
requests_per_minute = 600000
tokens_per_minute = 2000000000
price = {{ input = "0.4", cached_input = "0.1", output = "1.6" }}
[models."gpt-4.1"]
requests_per_minute = 600000
tokens_per_minute = 2000000000
price = {{ input = "2", cached_input = "0.5", output = "8" }}
[aliases]
small = ["gpt-4.1-mini"]
large = ["gpt-4.1"]
[[budgets]]
scope = "global"
window = "day"
limit_usd = "1000"
"""


@dataclass(kw_only=True)
class Piece:
    """One process of the stack, running or not."""

    service: Service
    process: subprocess.Popen[bytes] | None = None
    paused: bool = False


@dataclass(kw_only=True)
class Site:
    """The running stack. Main thread only: the lives of its processes are tied to the thread that starts them."""

    home: Home
    valkey: Valkey
    postgres: Postgres
    provider: SimulatorProcess
    url: str
    key: str
    pieces: dict[str, Piece] = field(default_factory=dict)
    links: dict[str, tuple[Link, Link]] = field(default_factory=dict)
    wrong_clock: ShiftedClock | None = None

    @property
    def api(self) -> ApiClient:
        """The HTTP door, as the operator."""
        return ApiClient(Address(url=self.url, key=self.key))

    @property
    def redis_url(self) -> str:
        return self.valkey.url

    @property
    def database_url(self) -> str:
        return self.postgres.url

    def start(self, name: str) -> None:
        """Start a piece that does not run."""
        piece = self.pieces[name]
        piece.process, piece.paused = piece.service.launch(), False

    def pid(self, name: str) -> int:
        process = self.pieces[name].process
        assert process is not None
        return process.pid

    def kill(self, name: str) -> None:
        """End a piece with -9 and its whole group with it."""
        kill_group(self.pid(name))
        process = self.pieces[name].process
        assert process is not None
        process.wait()

    def pause(self, name: str) -> None:
        os.kill(self.pid(name), signal.SIGSTOP)

    def resume(self, name: str) -> None:
        os.kill(self.pid(name), signal.SIGCONT)

    def hang(self, name: str) -> None:
        """Make a piece hold its interpreter's lock for ever; whoever notices has to end it."""
        hang(self.pid(name))

    def terminate(self, name: str) -> None:
        """Ask a piece to end; `revive` starts it again when it has."""
        os.kill(self.pid(name), signal.SIGTERM)

    def revive(self) -> None:
        """Start again what has ended, as a supervisor does."""
        for name, piece in self.pieces.items():
            if piece.process is not None and piece.process.poll() is not None:
                self.start(name)

    def log(self, name: str) -> str:
        return last_lines(self.home.log_path(name), count=200)

    def log_lines(self) -> dict[str, int]:
        """How many lines each piece has logged so far, but for the one of each request that the door has answered."""
        return {name: len(_told(self.home.log_path(name).read_bytes())) for name in self.pieces}

    def wipe_redis(self) -> None:
        with redis.Redis.from_url(self.redis_url) as client:
            client.flushall()

    def end_store(self, store: Valkey | Postgres) -> None:
        """End a store with -9, its children too."""
        assert store.process is not None
        kill_group(store.process.pid)
        store.process.wait()

    def start_store(self, store: Valkey | Postgres) -> None:
        """Start a store again on its port and wait until it stays up."""
        for _ in range(10):
            process = store.launch()
            if not wait_until(lambda process=process: process.poll() is not None, seconds=0.5):  # type: ignore[misc]  # bound for the loop
                return
        raise AssertionError(f"{store.name} does not start again")

    def is_ready(self) -> bool:
        return self.api.is_ready()


@contextmanager
def running_site(
    folder: Path, provider: SimulatorProcess, *, env: Mapping[str, str], pieces: tuple[str, ...] = PIECES
) -> Iterator[Site]:
    """Start everything and wait until the door is ready; end everything at the end, however it is by then."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "chaos.toml").write_text(CONFIG.format(url=provider.base_url))
    home = Home(folder / "home")
    with home.locked(), link_loop() as loop, ExitStack() as ends:
        valkey = ends.enter_context(Valkey(home).running())
        postgres = ends.enter_context(Postgres(home).running())
        port = free_port()
        site = Site(
            home=home,
            valkey=valkey,
            postgres=postgres,
            provider=provider,
            url=f"http://127.0.0.1:{port}",
            key=home.secret("admin-key"),
        )
        ends.callback(_end_all, site)
        around = with_hang(_environment(site, folder, port) | dict(env))
        site.wrong_clock = ends.enter_context(ShiftedClock.made())
        if site.wrong_clock is not None:
            site.wrong_clock.shift(SKEW_SECONDS)
        release = subprocess.run(
            [sys.executable, "-m", "tasks.release"], cwd=CHECKOUT, env=around, capture_output=True, check=False
        )
        assert release.returncode == 0, release.stderr.decode()
        for name in pieces:
            site.pieces[name] = Piece(service=_service(site, loop, name, around))
            site.start(name)
        assert wait_until(site.is_ready, seconds=READY_SECONDS), site.log("web")
        yield site


def _service(site: Site, loop: asyncio.AbstractEventLoop, name: str, around: Mapping[str, str]) -> Service:
    env = dict(around)
    if name in LINKED:
        redis_link, postgres_link = Link(loop, site.valkey.port), Link(loop, site.postgres.port)
        site.links[name] = (redis_link, postgres_link)
        env["PENSTOCK_REDIS_URL"] = site.redis_url.replace(f":{site.valkey.port}/", f":{redis_link.port}/")
        env["PENSTOCK_DATABASE_URL"] = site.database_url.replace(f":{site.postgres.port}/", f":{postgres_link.port}/")
    if name == SKEWED and site.wrong_clock is not None:
        env |= site.wrong_clock.env
    return command_service(site.home, ProcessLine(name=name, command=_command(name)), env)


def _command(name: str) -> str:
    kind = name.partition("-")[0]
    lines = {line.name: line.command for line in parse_procfile((CHECKOUT / "Procfile").read_text()).processes}
    return lines[kind]


def _environment(site: Site, folder: Path, port: int | None) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PENSTOCK_", "OPENAI_"))}
    return kept | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "PYTHONUNBUFFERED": "1",
        "PENSTOCK_HOME": str(site.home.root),
        "PENSTOCK_CONFIG": str(folder / "chaos.toml"),
        "PENSTOCK_REDIS_URL": site.redis_url,
        "PENSTOCK_DATABASE_URL": site.database_url,
        "PENSTOCK_ADMIN_KEY": site.key,
        "PENSTOCK_ENV": "production",
        "PENSTOCK_HOST": "127.0.0.1",
        "PORT": str(port),
        "OPENAI_BASE_URL": site.provider.base_url,
        "OPENAI_API_KEY": "simulated",
    }


def _end_all(site: Site) -> None:
    for link in (link for pair in site.links.values() for link in pair):
        link.patched()
    running = [piece.process for piece in site.pieces.values() if piece.process is not None]
    for process in running:
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGCONT)
            process.send_signal(signal.SIGTERM)
    give_up_at = time.monotonic() + 10.0
    for process in running:
        end(process, stop_signal=signal.SIGTERM, grace_seconds=max(0.1, give_up_at - time.monotonic()))
    for link in (link for pair in site.links.values() for link in pair):
        link.close()


def _told(log: bytes) -> list[bytes]:
    return [line for line in log.splitlines() if b"answered" not in line]
