"""`penstock dead-letters`."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from cli.command_group import CommandGroup
from cli.commands.dead_letter_options import DeadLetterFilter, GroupFilter, PatchOptions, ReplayFilter, Rollout
from cli.commands.replays import follow
from cli.options import DEFAULT_LIMIT, Limit, Output, Server
from cli.output import binary_target, remark, say
from schemas.jsons import NEW_LINE, JsonObject, MalformedJson, dumps, parse

app = CommandGroup(no_args_is_help=True, help="Look at dead letters; replay, discard, export and import them.")

COLUMNS = ("id", "reason", "cause", "lane", "model", "custom_id", "tries", "attempts", "cost_usd", "rested_at")
GROUP_COLUMNS = ("count", "reason", "cause", "cost_usd", "latest_at", "example", "id")

BYTES_PER_POST = 1_000_000
"""Size of an import's requests; a longer line is sent alone."""

Ids = Annotated[list[str] | None, typer.Argument(help="Dead letters by their ids.")]
Everything = Annotated[bool, typer.Option("--all", help="Every dead letter there is.")]


@app.command("list")
def list_dead_letters(which: DeadLetterFilter, server: Server, output: Output, *, limit: Limit = DEFAULT_LIMIT) -> None:
    """List dead letters, newest first."""
    output.rows(server.client().rows("dead-letters", at_most=limit, **which.as_json()), COLUMNS)


@app.command("groups")
def group_dead_letters(which: GroupFilter, server: Server, output: Output) -> None:
    """Count dead letters by cause, most frequent first."""
    groups = server.client().get("dead-letters", "groups", **which.as_json())["data"]
    output.rows(groups, GROUP_COLUMNS)
    if groups and not output.as_json:
        remark(f"{sum(row['count'] for row in groups)} jobs, {_causes(len(groups))}")


@app.command("show")
def show_dead_letter(server: Server, output: Output, *, job_id: str) -> None:
    """Show a dead letter with its attempts, replies, complaints and costs."""
    output.resource(server.client().get("dead-letters", job_id))


@app.command("replay")
def replay_dead_letters(
    which: ReplayFilter,
    patch: PatchOptions,
    rollout: Rollout,
    server: Server,
    output: Output,
    *,
    job_ids: Ids = None,
    everything: Everything = False,
    key: Annotated[
        str | None, typer.Option("--key", help="An idempotency key: the same command again is one replay.")
    ] = None,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Begin it and return; `replays show` tells how far it is.")
    ] = False,
) -> None:
    """Return dead letters to their lanes: by id, filter or --all. Ctrl-C stops watching only."""
    body = _selection(job_ids, which, everything=everything) | asdict(rollout) | {"patch": patch.as_json()}
    api = server.operator()
    begun = api.post("replays", body=body, headers={"idempotency-key": key} if key else None)
    if rollout.dry_run:
        output.resource(begun)
        return
    if not output.as_json:
        say(str(begun["id"]))
    ended = begun if no_wait else follow(api, begun)
    if output.as_json:
        output.resource(ended)


@app.command("discard")
def discard_dead_letters(
    which: DeadLetterFilter, server: Server, *, job_ids: Ids = None, everything: Everything = False
) -> None:
    """Discard dead letters: they stay dead, and are neither listed nor replayed."""
    body = _selection(job_ids, which, everything=everything)
    discarded = server.operator().post("dead-letters", "discard", body=body)
    remark(f"{len(discarded.get('discarded', []))} discarded")


@app.command("export")
def export_dead_letters(
    which: DeadLetterFilter,
    server: Server,
    *,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Where to; default: stdout.")] = None,
) -> None:
    """Write dead letters with requests and attempts as JSON lines."""
    lines = server.client().lines("dead-letters", "export", **which.as_json())
    count = _copy(lines, output)
    remark(f"{count} exported")


@app.command("import")
def import_dead_letters(
    server: Server,
    *,
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, readable=True, help="Lines of an export.")],
) -> None:
    """Import an export's lines, all or none. Attempts are not imported and known letters are skipped."""
    api = server.operator()
    for first_line, lines in _posts(file):
        api.post_lines("dead-letters", "import", lines=lines, dry_run="true", first_line=first_line)
    imported = skipped = 0
    for first_line, lines in _posts(file):
        taken = api.post_lines("dead-letters", "import", lines=lines, first_line=first_line)
        imported, skipped = imported + taken["imported"], skipped + taken["known"]
    remark(f"{imported} imported, {skipped} were here before")


def _selection(job_ids: list[str] | None, which: DeadLetterFilter, *, everything: bool) -> JsonObject:
    chosen = which.as_json()
    if bool(job_ids) + bool(chosen) + everything != 1:
        raise typer.BadParameter("name ids, or a filter such as --reason and --group, or --all")
    return {"ids": job_ids} if job_ids else {"filter": chosen}


def _causes(number: int) -> str:
    return "one cause" if number == 1 else f"{number} causes"


def _copy(lines: Iterator[bytes], output: Path | None) -> int:
    count = 0
    with binary_target(output) as target:
        for count, line in enumerate(lines, start=1):  # noqa: B007 - how many there were is the answer
            target.write(line)
        target.flush()
    return count


def _posts(file: Path) -> Iterator[tuple[int, bytes]]:
    """Yield the API's requests, each with the number of its first line."""
    first_line, held = 1, bytearray()
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            slim = _slim(line)
            if held and len(held) + len(slim) > BYTES_PER_POST:
                yield first_line, bytes(held)
                first_line, held = number, bytearray()
            held += slim
    if held:
        yield first_line, bytes(held)


def _slim(line: bytes) -> bytes:
    """Remove the attempts, which are not imported. Leaves an invalid line to the API."""
    try:
        letter = parse(line)
    except MalformedJson:
        return line
    if isinstance(letter, dict):
        letter.pop("attempts", None)
    return dumps(letter, NEW_LINE)
