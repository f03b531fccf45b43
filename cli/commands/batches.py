"""`penstock submit`, `proceed`, `watch` and `results`."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from cli.client.errors import BatchIncomplete
from cli.client.http import ApiClient
from cli.commands.quote import quote_file
from cli.options import Output, Server
from cli.output import ProgressLines, binary_target, remark
from schemas.errors import InvalidRequest
from schemas.lanes import Lane

if TYPE_CHECKING:
    from openai import OpenAI
    from openai.types import Batch

LOOK_SECONDS = 0.5
LINE_SECONDS = 5.0
CHECK_WAIT_SECONDS = 20.0
ENDED = frozenset({"completed", "failed", "expired", "cancelled"})
CHUNK_BYTES = 1 << 16


def submit(
    server: Server,
    output: Output,
    *,
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, readable=True, help="A batch file: JSON lines.")],
    lane: Annotated[Lane, typer.Option("--lane", help="The priority class of its jobs.")] = Lane.NORMAL,
    max_cost: Annotated[
        str, typer.Option("--max-cost", help="Stop it at so many USD; `quote` takes what asking each once may cost.")
    ] = "",
    max_error_rate: Annotated[
        str, typer.Option("--max-error-rate", help="Stop it when more than this part fails, such as 0.05.")
    ] = "",
    canary: Annotated[
        int | None, typer.Option("--canary", min=1, help="Run so many first; hold the rest for the price they project.")
    ] = None,
    follow: Annotated[bool, typer.Option("--watch", help="Watch it until it ends.")] = False,
) -> None:
    """Submit a batch file and print the batch's id."""
    api = server.client()
    cap = quote_file(api, file)["one_call_usd"] if max_cost == "quote" else max_cost
    terms = {"max_cost_usd": cap, "max_error_rate": max_error_rate, "canary": str(canary or "")}
    with api.sdk() as client:
        batch = checked(client, submit_file(client, file, lane=lane, terms=terms))
    output.lines(batch.to_dict(mode="json"), [batch.id])
    if follow:
        _watch(api, batch.id)


def proceed(server: Server, *, batch_id: str) -> None:
    """Release a batch that its canary holds."""
    server.client().post("v1", "batches", batch_id, "proceed")
    remark(f"{batch_id} goes on")


def watch(server: Server, *, batch_id: str) -> None:
    """Watch a batch until it ends. Ctrl-C stops watching, not the batch."""
    _watch(server.client(), batch_id)


def results(
    server: Server,
    *,
    batch_id: str,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Where to; default: stdout.")] = None,
    errors: Annotated[Path | None, typer.Option("--errors", help="Where the lines that failed go.")] = None,
) -> None:
    """Fetch the results of a batch that has ended."""
    with server.client().sdk() as client:
        batch = client.batches.retrieve(batch_id)
        if batch.status not in ENDED:
            raise InvalidRequest(f"{batch_id} is {batch.status}; wait for its end with `penstock watch {batch_id}`")
        fetch(client, batch.output_file_id, output)
        if errors is not None:
            fetch(client, batch.error_file_id, errors)
    remark(_counts(batch))


def submit_file(client: "OpenAI", file: Path, *, lane: Lane, terms: Mapping[str, str] | None = None) -> "Batch":
    """Upload a file and create its batch; empty terms are omitted."""
    uploaded = client.files.create(file=file, purpose="batch")
    return client.batches.create(
        input_file_id=uploaded.id,
        endpoint="/v1/chat/completions",
        completion_window="24h",
        metadata={"lane": lane.value} | {name: value for name, value in (terms or {}).items() if value},
    )


def checked(client: "OpenAI", batch: "Batch") -> "Batch":
    """Wait until the lines are checked. Raises InvalidRequest with the first complaint."""
    give_up_at = time.monotonic() + CHECK_WAIT_SECONDS
    while batch.status == "validating" and time.monotonic() < give_up_at:
        time.sleep(LOOK_SECONDS)
        batch = client.batches.retrieve(batch.id)
    if batch.status == "failed":
        raise InvalidRequest(f"{batch.id} was refused: {_complaints(batch)}")
    return batch


def ends(client: "OpenAI", batch_id: str) -> Iterator["Batch"]:
    """Poll the batch and yield each state; the last one is terminal."""
    while True:
        batch = client.batches.retrieve(batch_id)
        yield batch
        if batch.status in ENDED:
            return
        time.sleep(LOOK_SECONDS)


def fetch(client: "OpenAI", file_id: str | None, target: Path | None) -> None:
    """Copy a file to the target, else to stdout; a missing file becomes an empty target."""
    if file_id is None:
        if target is not None:
            target.write_bytes(b"")
        return
    with client.files.with_streaming_response.content(file_id) as content, binary_target(target) as file:
        file.writelines(content.iter_bytes(CHUNK_BYTES))
        file.flush()


def _watch(api: ApiClient, batch_id: str) -> None:
    with api.sdk() as client, _meter() as show:
        last = None
        for last in ends(client, batch_id):
            show(last)
    assert last is not None  # noqa: S101 - `ends` yields at least once
    if last.status == "failed":
        raise InvalidRequest(f"{batch_id} was refused: {_complaints(last)}")
    remark(_counts(last))
    if last.status != "completed" or (last.request_counts and last.request_counts.failed):
        raise BatchIncomplete(f"{_counts(last)}; see `penstock dead-letters list --batch {batch_id}`")


@contextmanager
def _meter() -> Iterator[Callable[["Batch"], None]]:
    if not sys.stderr.isatty():
        lines = ProgressLines(LINE_SECONDS, remark)
        yield lambda batch: lines.show(_counts(batch), is_last=batch.status in ENDED)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        yield partial(_move_bar, progress, progress.add_task("validating", total=None))


def _move_bar(progress: Progress, task: TaskID, batch: "Batch") -> None:
    counts = batch.request_counts
    done, total = (counts.completed + counts.failed, counts.total) if counts else (0, 0)
    progress.update(task, description=batch.status, completed=done, total=total or None)


def _counts(batch: "Batch") -> str:
    counts = batch.request_counts
    numbers = f": {counts.completed} of {counts.total} completed, {counts.failed} failed" if counts else ""
    return f"{batch.id} {batch.status}{numbers}{_held(batch)}"


def _held(batch: "Batch") -> str:
    terms = (batch.model_extra or {}).get("stop_loss") or {}
    if terms.get("phase") == "held":
        return f"; held at a projected {terms['projected_usd']} USD, `penstock proceed {batch.id}` lets it go on"
    return f"; {terms['stopped']}" if terms.get("stopped") else ""


def _complaints(batch: "Batch") -> str:
    errors = (batch.errors and batch.errors.data) or []
    if not errors:
        return "no reason was given"
    first = errors[0]
    place = f"line {first.line}: " if first.line is not None else ""
    more = f" (and {len(errors) - 1} more; `--json` has them)" if len(errors) > 1 else ""
    return f"{place}{first.message}{more}"
