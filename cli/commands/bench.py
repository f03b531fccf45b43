"""`penstock bench`."""

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.command_group import CommandGroup
from cli.options import Output, environment
from cli.output import remark

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from bench.gate.stage import Case
    from bench.stack.backlog import Backlog
    from bench.stack.waiting import Waiting

app = CommandGroup(no_args_is_help=True, help="Measure this machine; every figure beside one of the same minute.")

DEFAULT_JOBS, DEFAULT_IN_FLIGHT, DEFAULT_PROCESSES = 8_000, 256, 2


Seconds = Annotated[float, typer.Option("--seconds", min=2, help="How long each row is measured, after warm-up.")]
Only = Annotated[str | None, typer.Option("--only", help="Only the rows whose name contains this.")]
Processes = Annotated[int, typer.Option("--processes", min=1, help="Worker processes of the standard lanes.")]
DEFAULT_SECONDS = 12.0
DEFAULT_DEEP, DEFAULT_ROUND_SECONDS, DEFAULT_SLOTS = 1_000_000, 40.0, 288
DEFAULT_STANDARD = 1
"""As in `penstock up`, besides its processes for urgent lanes and the low lane."""

DEFAULT_WAITING, DEFAULT_FREEZE_SECONDS, DEFAULT_WAITING_SLOTS = 10_000, 60.0, 128
NOT_KEPT = 1


@app.command("overhead")
def overhead(
    ctx: typer.Context,
    output: Output,
    *,
    jobs: Annotated[int, typer.Option("--jobs", min=400, help="Jobs in the batch, and bare calls.")] = DEFAULT_JOBS,
    in_flight: Annotated[int, typer.Option("--in-flight", min=1, help="Per process.")] = DEFAULT_IN_FLIGHT,
    processes: Annotated[int, typer.Option("--processes", min=1, help="Worker processes, bare loops.")] = (
        DEFAULT_PROCESSES
    ),
) -> None:
    """Compare a job's cost with a bare call of the official client, at equal concurrency."""
    from bench.stack.overhead import lines_of, measure  # noqa: PLC0415 - loads every package, which other commands need not

    remark("three parts, each under way for some tens of seconds …")
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as home:
        result = measure(Path(home), environment(ctx), jobs=jobs, in_flight=in_flight, processes=processes)
    ratios = {"cpu_ratio": result.cpu_ratio, "throughput_ratio": result.throughput_ratio}
    output.lines(asdict(result) | ratios, lines_of(result))


@app.command("quota")
def quota(ctx: typer.Context, output: Output, *, seconds: Seconds = DEFAULT_SECONDS, only: Only = None) -> None:
    """Show sixteen processes using a provider's quota without exceeding it, beside naive limiters."""
    from bench.gate.quota import CASES  # noqa: PLC0415 - loads Redis and the provider's reader

    _gate_rows(ctx, output, CASES, seconds=seconds, only=only)


@app.command("lanes")
def lanes(ctx: typer.Context, output: Output, *, seconds: Seconds = DEFAULT_SECONDS, only: Only = None) -> None:
    """Show which lanes are admitted while 2,048 jobs wait, beside limiters without lanes."""
    from bench.gate.lanes import CASES  # noqa: PLC0415 - the same

    _gate_rows(ctx, output, CASES, seconds=seconds, only=only)


@app.command("backlog")
def backlog(
    ctx: typer.Context,
    output: Output,
    *,
    jobs: Annotated[int, typer.Option("--jobs", min=4_000, help="Low jobs queued in the deep part.")] = DEFAULT_DEEP,
    seconds: Seconds = DEFAULT_ROUND_SECONDS,
    processes: Processes = DEFAULT_STANDARD,
) -> None:
    """Compare critical jobs beside a million queued low jobs and beside a thousand."""
    from bench.stack.backlog import lines_of, measure, misses  # noqa: PLC0415 - loads every package

    remark(f"rounds of {seconds:.0f} seconds, seven of them; {jobs:,} rows are stored in between …")
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as home:
        result = measure(
            Path(home), environment(ctx), jobs=jobs, seconds=seconds, processes=processes, slots=DEFAULT_SLOTS
        )
    _show_result(output, result, lines_of(result), misses(result))


@app.command("waiting")
def waiting(
    ctx: typer.Context,
    output: Output,
    *,
    jobs: Annotated[int, typer.Option("--jobs", min=1_000, help="Jobs of each of two models.")] = DEFAULT_WAITING,
    seconds: Seconds = DEFAULT_FREEZE_SECONDS,
    processes: Processes = DEFAULT_PROCESSES,
    slots: Annotated[int, typer.Option("--slots", min=64, help="Per worker process.")] = DEFAULT_WAITING_SLOTS,
) -> None:
    """Freeze one of two models: its jobs hold no slot or memory, and the other continues."""
    from bench.stack.waiting import lines_of, measure, misses  # noqa: PLC0415 - the same

    remark(f"three stretches of {seconds:.0f} seconds …")
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as home:
        result = measure(Path(home), environment(ctx), jobs=jobs, seconds=seconds, processes=processes, slots=slots)
    _show_result(output, result, lines_of(result), misses(result))


def _show_result(
    output: Output, result: "Backlog | Waiting", lines: "Iterable[str]", missed: "Mapping[str, Sequence[str]]"
) -> None:
    output.lines(asdict(result) | {"missed": missed}, lines)
    if any(missed.values()):
        raise typer.Exit(NOT_KEPT)


def _gate_rows(
    ctx: typer.Context, output: Output, cases: "Sequence[Case]", *, seconds: float, only: str | None
) -> None:
    from bench.gate.stage import measure_all  # noqa: PLC0415 - the same
    from bench.gate.table import as_rows, chosen, lines_of, misses  # noqa: PLC0415 - the same

    rows, selected = [], chosen(cases, only)
    remark(f"{len(selected)} rows, each under way for about {seconds + 10:.0f} seconds …")
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as home:
        for case, result in zip(
            selected, measure_all(Path(home), environment(ctx), selected, seconds=seconds), strict=True
        ):
            rows.append((case, result))
            remark(f"{case.name}: used {result.utilisation:.3f}, refused {result.refused:.2%}")
    output.lines(as_rows(rows), lines_of(rows))
    if any(misses(case, result) for case, result in rows):
        raise typer.Exit(NOT_KEPT)
