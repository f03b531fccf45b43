"""`penstock demo`: runs a batch on a stack of its own and shows it.

build -> start the stack -> quote and ask, if it costs money -> submit -> progress -> summary -> one replay -> stop
"""

import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.live import Live
from rich.text import Text

from cli.client.address import Address
from cli.client.http import ApiClient
from cli.commands.batches import checked, ends, fetch, submit_file
from cli.commands.quote import quote_file, sentences
from cli.demo.reading import Reading, block, last_line, line, quota_used, settled_nano_usd
from cli.demo.stack import build_batch, calls_a_real_provider, running
from cli.options import environment, typed_nearest
from cli.output import ProgressLines, cell, say
from schemas.errors import NotFound, PenstockError
from schemas.jsons import JsonObject
from schemas.lanes import Lane
from schemas.states import AT_REST, JobState

if TYPE_CHECKING:
    from openai.types import Batch

DEMO_HOME = Path(".penstock") / "demo"
DEFAULT_COUNT = 1_200
MODEL = "small"
LINE_SECONDS = 2.0
REPLAY_SECONDS = 30.0
LOOK_SECONDS = 0.25
SHOWN_STORY_FIELDS = ("id", "custom_id", "reason", "message", "tries", "cost_usd")


def demo(
    ctx: typer.Context,
    *,
    count: Annotated[int, typer.Option("--count", min=1, help="Requests in the batch.")] = DEFAULT_COUNT,
    home: Annotated[
        Path, typer.Option("--home", callback=typed_nearest, help="A home folder of the demo's own.")
    ] = DEMO_HOME,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before spending money.")] = False,
) -> None:
    """Run a batch of real requests through the whole stack."""
    env = environment(ctx)
    say("Building a batch from the documentation on this machine …")
    with ThreadPoolExecutor(max_workers=2) as beside:  # the stack takes seconds to start, mostly on one core
        building = beside.submit(build_batch, home, count=count, model=MODEL)
        beside.submit(import_module, "openai")
        costs_money = calls_a_real_provider(env)
        if costs_money and not yes and not sys.stdin.isatty():
            raise PenstockError("nobody is there to agree to the price; say --yes, or unset OPENAI_API_KEY")
        if not costs_money:
            say("*** No OPENAI_API_KEY: a SIMULATOR answers, with throttling, errors and malformed answers. ***")
        say("Starting Valkey, Postgres, the API, workers and upkeep …")
        with running(home, env) as stack:
            url, api = stack.connection.url, ApiClient(Address(url=stack.connection.url, key=stack.key))
            say(f"Ready at {url} (Flower at {stack.connection.flower_url}); Ctrl-C stops everything.\n")
            if costs_money:
                _agree(api, building.result(), yes=yes)
            batch_id, reading = _run_batch(api, building.result())
            reading = _replay_one(api, batch_id, reading)
            say("\nStopping …")
    say(last_line(reading))


def _agree(api: ApiClient, file: Path, *, yes: bool) -> None:
    say("This calls a real provider:")
    for sentence in sentences(quote_file(api, file)):
        say(f"  {sentence}")
    if not yes and not typer.confirm("Go on?"):
        raise typer.Exit(code=0)


def _run_batch(api: ApiClient, file: Path) -> tuple[str, Reading]:
    """Run the jobs of a file to their end; return the batch's id and last reading."""
    spent_before = settled_nano_usd(list(api.rows("budgets")))
    with api.sdk() as client:
        started_at = time.monotonic()
        batch = submit_file(client, file, lane=Lane.NORMAL)
        say(f"Submitted {batch.id} through /v1/files and /v1/batches.")
        batch = checked(client, batch)
        reading = _read(api, batch, started_at, spent_before)
        with _screen() as show:
            for latest in ends(client, batch.id):
                batch, reading = latest, _read(api, latest, started_at, spent_before)
                show(reading)
        saved = None
        if batch.output_file_id is not None:
            saved = file.with_name("demo-results.jsonl")
            fetch(client, batch.output_file_id, saved)
    _summarise(api, batch.id, reading, saved)
    return batch.id, reading


def batch_summary(api: ApiClient, batch_id: str) -> JsonObject:
    """Return a batch's jobs by lane, outcome, recovery and reason of death."""
    return api.get("jobs", "summary", batch_id=batch_id)


def _read(api: ApiClient, batch: "Batch", started_at: float, spent_before_nano_usd: int) -> Reading:
    counts = batch.request_counts
    story = batch_summary(api, batch.id)
    return Reading(
        elapsed_seconds=time.monotonic() - started_at,
        status=batch.status,
        total=counts.total if counts else 0,
        completed=counts.completed if counts else 0,
        dead=counts.failed if counts else 0,
        reprompted=int(story.get("reprompted", 0)),
        spent_nano_usd=settled_nano_usd(list(api.rows("budgets"))) - spent_before_nano_usd,
        lanes={str(lane): int(waiting) for lane, waiting in story.get("lanes", {}).items()},
        quota=quota_used(list(api.rows("limits"))),
    )


@contextmanager
def _screen() -> Iterator[Callable[[Reading], None]]:
    if not sys.stdout.isatty():
        lines = ProgressLines(LINE_SECONDS, say)
        yield lambda reading: lines.show(line(reading), is_last=reading.completed + reading.dead == reading.total)
        return
    with Live(console=Console(), refresh_per_second=8) as live:
        yield lambda reading: live.update(Text(block(reading)))


def _summarise(api: ApiClient, batch_id: str, reading: Reading, saved: Path | None) -> None:
    story = batch_summary(api, batch_id)
    say(f"\n{reading.completed} of {reading.total} answers satisfy their schema; they are in {saved or 'no file'}")
    for heading, name in (("Attempts", "attempts"), ("Saved by recovery", "recoveries"), ("Not saved", "dead")):
        counts = story.get(name) or {}
        listed = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items(), key=lambda item: -item[1]))
        say(f"  {heading + ':':<19}{listed or 'none'}")


def _replay_one(api: ApiClient, batch_id: str, reading: Reading) -> Reading:
    letter = next(iter(api.rows("dead-letters", at_most=1, batch_id=batch_id)), None)
    if letter is None:
        say("\nThere is no dead letter to show.")
        return reading
    job_id = str(letter["id"])
    _show_letter(api.get("dead-letters", job_id))
    api.post("dead-letters", "replay", body={"ids": [job_id]})
    state = _wait_for_rest(api, job_id)
    say(f"Replayed {job_id}: it is {state} now.")
    if state != JobState.COMPLETED:
        return reading
    return replace(reading, completed=reading.completed + 1, dead=reading.dead - 1)


def _show_letter(letter: JsonObject) -> None:
    say("\nOne dead letter, with its story:")
    for name in SHOWN_STORY_FIELDS:
        if letter.get(name) is not None:
            say(f"  {name:<10} {cell(letter[name])[:160]}")
    attempts = letter.get("attempts")
    for number, attempt in enumerate(attempts if isinstance(attempts, list) else [], start=1):
        why = attempt.get("complaint") or attempt.get("error") or ""
        say(f"  attempt {number}  {attempt.get('outcome')}  {cell(why)[:120] if why else ''}".rstrip())


def _wait_for_rest(api: ApiClient, job_id: str) -> str:
    give_up_at = time.monotonic() + REPLAY_SECONDS
    state = JobState.QUEUED.value
    while time.monotonic() < give_up_at:
        try:
            state = str(api.get("jobs", job_id).get("state"))
        except NotFound:
            return "gone"
        if state in tuple(AT_REST):
            return state
        time.sleep(LOOK_SECONDS)
    return state
