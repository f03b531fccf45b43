"""`penstock dead-letters`: what could not be saved, why, and the way back to work."""

import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from cli.client.following import follow
from cli.command_group import CommandGroup
from cli.commands.dead_letter_options import DeadLetterFilter, GroupFilter, ReplayFilter
from cli.commands.replay_options import PatchOptions, Rollout
from cli.options import DEFAULT_LIMIT, Limit, Output, Server
from cli.output import remark, say
from schemas.jsons import NEW_LINE, JsonObject, MalformedJson, dumps, parse

app = CommandGroup(no_args_is_help=True, help="Look at dead letters; replay, discard, export and import them.")

COLUMNS = ("id", "reason", "cause", "lane", "model", "custom_id", "tries", "attempts", "cost_usd", "rested_at")
GROUP_COLUMNS = ("count", "reason", "cause", "cost_usd", "latest_at", "example", "id")

BYTES_PER_POST = 1_000_000
"""Lines sent together by an import; a longer line goes alone."""

Ids = Annotated[list[str] | None, typer.Argument(help="Dead letters by their ids.")]
Everything = Annotated[bool, typer.Option("--all", help="Every dead letter there is.")]


@app.command("list")
def list_dead_letters(which: DeadLetterFilter, server: Server, output: Output, *, limit: Limit = DEFAULT_LIMIT) -> None:
    """List dead letters, newest first."""
    output.rows(server.client().rows("dead-letters", at_most=limit, **which.as_json()), COLUMNS)


@app.command("groups")
def group_dead_letters(which: GroupFilter, server: Server, output: Output) -> None:
    """Count dead letters by their cause, most frequent first."""
    groups = server.client().get("dead-letters", "groups", **which.as_json())["data"]
    output.rows(groups, GROUP_COLUMNS)
    if groups and not output.as_json:
        remark(f"{sum(row['count'] for row in groups)} jobs, {_causes(len(groups))}")


@app.command("show")
def show_dead_letter(server: Server, output: Output, *, job_id: str) -> None:
    """Show one dead letter with its whole story: every attempt, reply, complaint and cost."""
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
    """Give dead letters back to their lanes: by id, by filter, or --all. Ctrl-C stops watching, not the replay."""
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
    """Put dead letters aside: they stay dead, and are no longer listed nor replayed."""
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
    """Write dead letters as JSON lines, each with its request and all its attempts."""
    lines = server.client().lines("dead-letters", "export", **which.as_json())
    count = _copy(lines, output)
    remark(f"{count} exported")


@app.command("import")
def import_dead_letters(
    server: Server,
    *,
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, readable=True, help="Lines of an export.")],
) -> None:
    """Take the lines of an export in, all or none. Attempts stay behind; what is here already is left as it is."""
    api = server.operator()
    for first_line, lines in _posts(file):
        api.post_lines("dead-letters", "import", lines=lines, dry_run="true", first_line=first_line)
    imported = known = 0
    for first_line, lines in _posts(file):
        taken = api.post_lines("dead-letters", "import", lines=lines, first_line=first_line)
        imported, known = imported + taken["imported"], known + taken["known"]
    remark(f"{imported} imported, {known} were here before")


def _selection(job_ids: list[str] | None, which: DeadLetterFilter, *, everything: bool) -> JsonObject:
    chosen = which.as_json()
    if bool(job_ids) + bool(chosen) + everything != 1:
        raise typer.BadParameter("name ids, or a filter such as --reason and --group, or --all")
    return {"ids": job_ids} if job_ids else {"filter": chosen}


def _causes(number: int) -> str:
    return "one cause" if number == 1 else f"{number} causes"


def _copy(lines: Iterator[bytes], output: Path | None) -> int:
    count = 0
    target = sys.stdout.buffer if output is None else output.open("wb")
    try:
        for count, line in enumerate(lines, start=1):  # noqa: B007 - how many there were is the answer
            target.write(line)
        target.flush()
    finally:
        if output is not None:
            target.close()
    return count


def _posts(file: Path) -> Iterator[tuple[int, bytes]]:
    """The lines of a file in pieces for the API, each with the number of its first line."""
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
    """The line without the attempts that an import leaves behind; the API says what is wrong with one that is none."""
    try:
        letter = parse(line)
    except MalformedJson:
        return line
    if isinstance(letter, dict):
        letter.pop("attempts", None)
    return dumps(letter, NEW_LINE)
