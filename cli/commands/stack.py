"""`penstock up`, `down`, `status` and `check`."""

import os
import socket
import time
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from cli.options import DEFAULT_HOME, HomeFolder, Output, environment
from cli.output import remark, say, show_json
from config.catalogue import load_catalogue
from config.descriptors import needed_by_web, require_descriptors
from config.settings import Settings
from schemas.errors import NotFound, Unavailable, UnfitSchema
from schemas.jsons import JsonObject
from stack import status as stack_status
from stack.home import Home

DEFAULT_PORT = 8080
CONNECT_SECONDS = 5.0
COLUMNS = ("name", "state", "pid", "restarts", "up_seconds")
STORES = {"PENSTOCK_REDIS_URL": 6379, "PENSTOCK_DATABASE_URL": 5432}


def up(
    ctx: typer.Context,
    *,
    home: HomeFolder = DEFAULT_HOME,
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Where the API listens.")] = DEFAULT_PORT,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Worker processes of the standard lanes.")] = 1,
    quiet: Annotated[bool, typer.Option("--quiet", help="Do not show what the processes log.")] = False,
) -> None:
    """Run the whole stack in the foreground; Ctrl-C stops it."""
    from stack.up import up as run_stack  # noqa: PLC0415 - loads the servers, which no other command needs

    run_stack(home, port=port, workers=workers, env=environment(ctx), follow=not quiet)


def down(home: HomeFolder = DEFAULT_HOME) -> None:
    """Stop the stack of a home folder and wait for its end."""
    if Home(home).holder_pid() is None:
        remark(f"no penstock runs in {home}")
        return
    if not stack_status.down(home):
        raise Unavailable(f"the penstock in {home} was asked to stop and still runs; its logs are in {home / 'logs'}")
    remark("stopped")


def status(output: Output, *, home: HomeFolder = DEFAULT_HOME) -> None:
    """Show the processes of a home folder's stack."""
    stack = stack_status.read_status(home)
    if stack is None:
        raise NotFound(f"no penstock runs in {home}; start one with `penstock up`")
    if output.as_json:
        show_json(stack.model_dump(mode="json"))
        return
    connection = stack_status.read_connection(home)
    if connection is not None:
        say(f"{stack.phase} at {connection.url}, Flower at {connection.flower_url or '-'}")
        say(f"the provider is {'the simulator' if connection.simulator_url else 'a real one'}")
    output.rows([_row(process) for process in stack.processes], COLUMNS)


def check(ctx: typer.Context, output: Output) -> None:
    """Check configuration, settings, ports of Redis and Postgres, and schema before a deployment."""
    env = environment(ctx)
    path = Path(env.get("PENSTOCK_CONFIG") or "penstock.toml")
    catalogue = load_catalogue(path)
    addresses = {name: env.get(name) or "" for name in STORES}
    settings = Settings(
        redis_url=addresses["PENSTOCK_REDIS_URL"] or "redis://embedded",  # type: ignore[arg-type]  # parsed by pydantic
        database_url=addresses["PENSTOCK_DATABASE_URL"] or "postgresql://embedded",  # type: ignore[arg-type]  # the same
    )
    for name, url in addresses.items():
        if url:
            _require_answer(name, url)
    needed = needed_by_web(settings)
    limit = require_descriptors(settings, needed)
    findings: JsonObject = {
        "config": str(path) if path.exists() else "built-in",
        "models": sorted(catalogue.models),
        "aliases": {alias: list(chain) for alias, chain in catalogue.aliases.items()},
        "budgets": len(catalogue.budgets),
        "redis": "answers" if addresses["PENSTOCK_REDIS_URL"] else "embedded",
        "postgres": "answers" if addresses["PENSTOCK_DATABASE_URL"] else "embedded",
        "schema": _required_schema(settings) if addresses["PENSTOCK_DATABASE_URL"] else "released by penstock up",
        "descriptors": f"{limit} allowed, {needed} needed by web",
        "provider": "real" if env.get("OPENAI_API_KEY") or env.get("OPENAI_BASE_URL") else "simulator",
    }
    output.lines(findings, (f"ok  {name}: {value}" for name, value in findings.items()))


def _row(process: stack_status.ProcessStatus) -> JsonObject:
    up_seconds = None if process.up_since is None else int(time.time() - process.up_since)
    return process.model_dump(mode="json") | {"up_seconds": up_seconds}


def _required_schema(settings: Settings) -> str:
    from tasks.release import schema_fit  # noqa: PLC0415 - loads Postgres, which no other command needs

    fit = schema_fit(settings)
    if fit.complaint is not None:
        raise UnfitSchema(fit.complaint)
    return fit.newest


def _require_answer(name: str, url: str) -> None:
    parts = urlsplit(url)
    host, port = parts.hostname or "127.0.0.1", parts.port or STORES[name]
    try:
        socket.create_connection((host, port), timeout=CONNECT_SECONDS).close()
    except OSError as trouble:
        why = os.strerror(trouble.errno) if trouble.errno else str(trouble)
        raise Unavailable(f"{name}: nobody answers at {host}:{port} ({why})") from trouble
