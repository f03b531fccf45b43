"""The stack that `penstock demo` shows: its own home, its own port, a simulator with troubles, and a clean end.

OPENAI_API_KEY or OPENAI_BASE_URL set    that provider, and the caller's own penstock.toml
neither                                  the simulator, in scenarios that a provider has on a bad day
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from signal import SIGTERM

from cli.address import Address
from cli.door import Door
from cli.errors import DoorFailed
from schemas.errors import PenstockError
from stack.children import end, last_lines, spawn, wait_until
from stack.home import Home, HomeInUse, free_port, write_private
from stack.status import Connection, read_connection

CHECKOUT = Path(__file__).resolve().parent.parent
BUILDER = CHECKOUT / "examples" / "build_batch.py"
PREFERRED_PORT = 8080
READY_SECONDS = 180.0
STOP_SECONDS = 60.0
REQUESTS_PER_MINUTE, TOKENS_PER_MINUTE = 12_000, 40_000_000
BUDGET_USD = 100

SCENARIOS: Mapping[str, float] = {
    "throttle": 0.02,
    "500": 0.02,
    "fenced": 0.05,
    "commentary": 0.05,
    "wrong_type": 0.03,
    "missing_field": 0.03,
    "truncation": 0.01,
    "refusal": 0.005,
    "reset_before": 0.01,
}
"""Share of calls that meet each trouble."""


@dataclass(frozen=True, kw_only=True)
class Running:
    """A stack that is ready, and the door to it as its operator."""

    door: Door
    flower_url: str | None


def calls_a_real_provider(env: Mapping[str, str]) -> bool:
    """Whether money would be spent."""
    return bool(env.get("OPENAI_API_KEY") or env.get("OPENAI_BASE_URL"))


def build_batch(home: Path, *, count: int, model: str) -> Path:
    """Build the batch file of real documentation with the script in `examples`."""
    home.mkdir(parents=True, exist_ok=True)
    file = home / "demo-batch.jsonl"
    built = subprocess.run(  # noqa: S603 - our own script
        [sys.executable, str(BUILDER), "-o", str(file), "--count", str(count), "--model", model],
        capture_output=True,
        text=True,
        check=False,
    )
    if built.returncode != 0:
        raise PenstockError(f"the batch could not be built: {built.stderr.strip() or built.stdout.strip()}")
    return file


@contextmanager
def running(home: Path, env: Mapping[str, str]) -> Iterator[Running]:
    """Start `penstock up` in a process of its own, wait until it is ready, and stop it at the end."""
    if Home(home).holder_pid() is not None:
        raise HomeInUse(f"another demo runs in {home.absolute()}; stop it, or choose another folder with --home")
    home.mkdir(parents=True, exist_ok=True)
    port, log_path = free_port(PREFERRED_PORT) or free_port(), home / "demo-up.log"
    with ExitStack() as endings:
        chosen = dict(env) if calls_a_real_provider(env) else _simulated(home, env, endings)
        process = _started(
            ["-m", "cli", "up", "--home", str(home.absolute()), "--port", str(port), "--quiet"],
            env=chosen,
            log_path=log_path,
            endings=endings,
        )
        connection = _wait_ready(process, home, f"http://127.0.0.1:{port}", log_path)
        yield Running(door=_door(connection, chosen), flower_url=connection.flower_url)


def _started(
    arguments: list[str], *, env: Mapping[str, str], log_path: Path, endings: ExitStack
) -> subprocess.Popen[bytes]:
    log_path.unlink(missing_ok=True)
    process = spawn(
        [sys.executable, *arguments],
        env=env,
        log_path=log_path,
        cwd=CHECKOUT,
        death_signal=SIGTERM,  # it stops cleanly even if we are killed
    )
    endings.callback(end, process, stop_signal=SIGTERM, grace_seconds=STOP_SECONDS)
    return process


def _simulated(home: Path, env: Mapping[str, str], endings: ExitStack) -> dict[str, str]:
    """Start a provider in trouble; return the environment of a stack that calls it."""
    port = free_port()
    limits = f"requests_per_minute = {REQUESTS_PER_MINUTE}\ntokens_per_minute = {TOKENS_PER_MINUTE}\n"
    scenarios = "".join(f"{json.dumps(name)} = {share}\n" for name, share in SCENARIOS.items())
    budget = f'[[budgets]]\nscope = "global"\nwindow = "day"\nlimit_usd = "{BUDGET_USD}"\n'
    provider, config = home / "demo-simulator.toml", home / "demo.toml"
    write_private(provider, f"{limits}\n[scenarios]\n{scenarios}")
    write_private(config, f'[models."gpt-4.1-mini"]\n{limits}\n[aliases]\nsmall = ["gpt-4.1-mini"]\n\n{budget}')
    _started(
        ["-m", "simulator", "--port", str(port), "--config", str(provider.absolute())],
        env=env,
        log_path=home / "demo-simulator.log",
        endings=endings,
    )
    return dict(env) | {
        "PENSTOCK_CONFIG": str(config.absolute()),
        "OPENAI_BASE_URL": f"http://127.0.0.1:{port}/v1",
        "OPENAI_API_KEY": "simulator",
    }


def _wait_ready(process: subprocess.Popen[bytes], home: Path, url: str, log_path: Path) -> Connection:
    found: list[Connection] = []

    def is_ready() -> bool:
        connection = read_connection(home)
        if process.poll() is not None or connection is None or connection.url != url:
            return process.poll() is not None
        if Door(Address(url=url, key="")).is_ready():
            found.append(connection)
        return bool(found)

    wait_until(is_ready, seconds=READY_SECONDS)
    if not found:
        happened = "did not start" if process.poll() is not None else f"was not ready after {READY_SECONDS:.0f} s"
        raise DoorFailed(f"the stack {happened}; the end of {log_path}:\n{last_lines(log_path)}")
    return found[0]


def _door(connection: Connection, env: Mapping[str, str]) -> Door:
    key = env.get("PENSTOCK_ADMIN_KEY") or Path(connection.admin_key_file or os.devnull).read_text("utf-8").strip()
    return Door(Address(url=connection.url, key=key))
