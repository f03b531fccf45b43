"""The commands under `penstock bench`."""

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from cli.options import AsJson, environment
from cli.show import remark, say, show_json

app = typer.Typer(no_args_is_help=True, help="Measure this machine; every figure beside one of the same minute.")

DEFAULT_JOBS, DEFAULT_IN_FLIGHT, DEFAULT_PROCESSES = 8_000, 256, 2


@app.callback()
def bench() -> None:
    """Measure this machine; every figure beside one of the same minute."""


@app.command("overhead")
def overhead(
    ctx: typer.Context,
    *,
    jobs: Annotated[int, typer.Option("--jobs", min=400, help="Jobs in the batch, and bare calls.")] = DEFAULT_JOBS,
    in_flight: Annotated[int, typer.Option("--in-flight", min=1, help="Per process.")] = DEFAULT_IN_FLIGHT,
    processes: Annotated[int, typer.Option("--processes", min=1, help="Worker processes, bare loops.")] = (
        DEFAULT_PROCESSES
    ),
    as_json: AsJson = False,
) -> None:
    """Compare a job's whole life with the bare call of the official client, at the same number in flight."""
    from cli.bench.overhead import lines_of, measure  # noqa: PLC0415 - loads every room, which other commands need not

    remark("three parts, each under way for some tens of seconds …")
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as home:
        result = measure(Path(home), environment(ctx), jobs=jobs, in_flight=in_flight, processes=processes)
    if as_json:
        show_json(asdict(result) | {"cpu_ratio": result.cpu_ratio, "throughput_ratio": result.throughput_ratio})
        return
    for line in lines_of(result):
        say(line)
