"""`penstock up`: runs everything on one machine under one supervisor.

lock home -> servers, unless addresses are given -> release, once -> simulator? + Procfile, kept alive -> stop
"""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from schemas.errors import InvalidSetting, PenstockError
from stack.children import end_leftover, last_lines, remember, spawn, wait_until
from stack.embedded import EmbeddedServer
from stack.environment import environment_of
from stack.home import Home, free_port
from stack.postgres import Postgres
from stack.process import CHECKOUT
from stack.procfile import RELEASE, ProcessLine, Procfile, multiply, parse_procfile
from stack.signals import SignalWaiter
from stack.status import Connection, forget_connection, write_connection
from stack.supervisor import Service, Supervisor
from stack.valkey import Valkey

PORT_WAIT_SECONDS = 5.0  # the port of a supervisor that was just killed may still be closing
FLOWER_PORT = 5555
SIMULATOR_PORT = 8090
SIMULATOR_KEY = "simulator"
SIMULATOR_RANK, POSTGRES_RANK, VALKEY_RANK = 1, 2, 3  # workers (0) drain against all three


class ReleaseFailed(PenstockError):  # noqa: N818 - reads as what happened
    """The release step failed, so nothing was started."""

    code = "release_failed"


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """Environment of the processes, and notes for people."""

    env: dict[str, str]
    connection: Connection
    simulator_port: int | None
    notes: tuple[str, ...]


def say(line: str) -> None:
    """Print and flush, so that pipes get the line at once."""
    print(line, flush=True)  # noqa: T201 - this is the terminal's one voice


def up(
    home_path: Path,
    *,
    port: int,
    workers: int,
    env: Mapping[str, str],
    follow: bool = False,
    procfile_path: Path = CHECKOUT / "Procfile",
) -> None:
    """Run the whole stack until SIGINT or SIGTERM. Main thread only.

    Raises HomeInUse, InvalidSetting, ServerFailed and ReleaseFailed before the Procfile's processes start, with the
    servers stopped.
    """
    if workers < 1:
        raise InvalidSetting("--workers must be at least 1", param="workers")
    procfile = parse_procfile(procfile_path.read_text(encoding="utf-8"))
    home = Home(home_path)
    with home.locked(), SignalWaiter.installed() as signals, ExitStack() as servers:
        forget_connection(home)
        _require_free(port)
        supervisor = Supervisor(home, signals=signals, say=say, follow=follow)
        servers.callback(supervisor.stop)
        env = _with_stores(home, env, servers, supervisor)
        around = _surroundings(home, env, port=port, workers=workers)
        write_connection(home, around.connection)
        for note in around.notes:
            say(note)
        exit_status = _release(home, procfile, around, supervisor)
        if signals.stops_requested:
            return
        if exit_status != 0:
            raise ReleaseFailed(
                f"the release step ended with {exit_status}, so nothing was started; the end of its log:\n"
                + last_lines(home.log_path(RELEASE))
            )
        say(f"penstock is at {around.connection.url} · Flower at {around.connection.flower_url} · logs in {home.logs}")
        supervisor.run(_services(home, procfile, around, workers=workers))


def _with_stores(home: Home, env: Mapping[str, str], servers: ExitStack, supervisor: Supervisor) -> dict[str, str]:
    """Add the addresses of both stores; start and supervise servers for missing ones."""
    stores = dict(env)
    if not env.get("PENSTOCK_REDIS_URL"):
        stores["PENSTOCK_REDIS_URL"] = _run_store(Valkey(home), VALKEY_RANK, servers, supervisor)
    if not env.get("PENSTOCK_DATABASE_URL"):
        postgres = Postgres(home)
        stores["PENSTOCK_DATABASE_URL"] = _run_store(postgres, POSTGRES_RANK, servers, supervisor)
        say(f"Postgres data is in {postgres.privileges.data} ({postgres.privileges.way})")
    return stores


def _run_store(server: EmbeddedServer, rank: int, servers: ExitStack, supervisor: Supervisor) -> str:
    servers.enter_context(server.running())
    assert server.process is not None  # noqa: S101 - it was just started
    service = Service(
        name=server.name,
        launch=server.launch,
        log_path=server.log_path,
        stop_signal=server.stop_signal,
        rank=rank,
    )
    supervisor.adopt(service, server.process)
    return server.url


def _surroundings(home: Home, env: Mapping[str, str], *, port: int, workers: int) -> Surroundings:
    flower_port = home.port_for("flower", preferred=FLOWER_PORT)
    ours = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{env.get('PATH', os.defpath)}",
        "PYTHONUNBUFFERED": "1",
        "PENSTOCK_HOME": str(home.root),
        "PENSTOCK_ADMIN_KEY": env.get("PENSTOCK_ADMIN_KEY") or home.secret("admin-key"),
        "PENSTOCK_METRICS_KEY": env.get("PENSTOCK_METRICS_KEY") or home.secret("metrics-key"),
        "PENSTOCK_WORKERS": str(workers),
        "PENSTOCK_FLOWER_PORT": str(flower_port),
        "PORT": str(port),
    }
    notes: list[str] = []
    if "PENSTOCK_CONFIG" in env:  # the children run in the checkout, the caller perhaps elsewhere
        ours["PENSTOCK_CONFIG"] = str(Path(env["PENSTOCK_CONFIG"]).absolute())
    admin_key_file = None if env.get("PENSTOCK_ADMIN_KEY") else home.secrets / "admin-key"
    if admin_key_file is not None:
        notes.append(f"the operator's API key is in {admin_key_file}")
    if not env.get("PENSTOCK_METRICS_KEY"):
        notes.append(f"the key for /metrics is in {home.secrets / 'metrics-key'}")
    simulator_port = None
    if not env.get("OPENAI_API_KEY") and not env.get("OPENAI_BASE_URL"):
        simulator_port = home.port_for("simulator", preferred=SIMULATOR_PORT)
        ours["OPENAI_BASE_URL"] = f"http://127.0.0.1:{simulator_port}/v1"
        ours["OPENAI_API_KEY"] = SIMULATOR_KEY
        notes.append(
            "*** NO OPENAI_API_KEY: answers come from the built-in SIMULATOR, not from a model. "
            "Set OPENAI_API_KEY to call the real one. ***"
        )
    return Surroundings(
        env=dict(env) | ours,
        connection=Connection(
            url=f"http://127.0.0.1:{port}",
            redis_url=env["PENSTOCK_REDIS_URL"],
            database_url=env["PENSTOCK_DATABASE_URL"],
            simulator_url=ours.get("OPENAI_BASE_URL"),
            flower_url=f"http://127.0.0.1:{flower_port}",
            admin_key_file=None if admin_key_file is None else str(admin_key_file),
        ),
        simulator_port=simulator_port,
        notes=tuple(notes),
    )


def _release(home: Home, procfile: Procfile, around: Surroundings, supervisor: Supervisor) -> int:
    if procfile.release is None:
        return 0
    return supervisor.run_once(command_service(home, procfile.release, around.env))


def _services(home: Home, procfile: Procfile, around: Surroundings, *, workers: int) -> list[Service]:
    services = []
    if around.simulator_port is not None:
        command = f'"{sys.executable}" -m simulator --port {around.simulator_port}'
        line = ProcessLine(name="simulator", command=command)
        services.append(command_service(home, line, around.env, rank=SIMULATOR_RANK))
    lines = multiply(procfile.processes, {"standard": workers})
    return services + [command_service(home, line, around.env) for line in lines]


def command_service(home: Home, line: ProcessLine, env: Mapping[str, str], *, rank: int = 0) -> Service:
    """Build the service of a Procfile line. Signals reach the command, not a shell."""
    log_path, pid_file = home.log_path(line.name), home.run / f"{line.name}.pid"

    def launch() -> subprocess.Popen[bytes]:
        end_leftover(pid_file, stop_signal=signal.SIGTERM)
        process = spawn(
            ["/bin/sh", "-c", f"exec {line.command}"],
            env={**environment_of(line.name, env), "PENSTOCK_PROCESS": line.name},
            log_path=log_path,
            cwd=CHECKOUT,
        )
        remember(process, pid_file)
        return process

    return Service(name=line.name, launch=launch, log_path=log_path, rank=rank)


def _require_free(port: int) -> None:
    if not wait_until(lambda: free_port(port) is not None, seconds=PORT_WAIT_SECONDS):
        raise InvalidSetting(f"port {port} is taken by another program; choose one with --port", param="port")
