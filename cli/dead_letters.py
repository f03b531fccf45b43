"""`penstock dead-letters`: what could not be saved, why, and the way back to work."""

from collections import Counter
from typing import Annotated

import typer

from cli.options import DEFAULT_HOME, DEFAULT_LIMIT, AsJson, BatchOf, HomeFolder, Limit, Url, open_door
from cli.show import remark, say, show_object, show_rows
from schemas.decision import DeadReason

app = typer.Typer(no_args_is_help=True, help="Look at dead letters; replay them.")

COLUMNS = ("id", "reason", "message", "lane", "model", "custom_id", "tries", "attempts", "cost_usd", "rested_at")
GROUP_COLUMNS = ("reason", "model", "count", "example")

Reason = Annotated[DeadReason | None, typer.Option("--reason", help="Only those that died of this.")]


@app.command("list")
def list_dead_letters(
    ctx: typer.Context,
    *,
    reason: Reason = None,
    batch: BatchOf = None,
    limit: Limit = DEFAULT_LIMIT,
    as_json: AsJson = False,
    url: Url = None,
    home: HomeFolder = DEFAULT_HOME,
) -> None:
    """List dead letters, newest first."""
    door = open_door(ctx, url, home)
    show_rows(door.rows("dead-letters", at_most=limit, reason=reason, batch_id=batch), COLUMNS, as_json=as_json)


@app.command("groups")
def group_dead_letters(
    ctx: typer.Context,
    *,
    batch: BatchOf = None,
    as_json: AsJson = False,
    url: Url = None,
    home: HomeFolder = DEFAULT_HOME,
) -> None:
    """Count dead letters by reason and model, most frequent first."""
    counts: Counter[tuple[str, str]] = Counter()
    examples: dict[tuple[str, str], str] = {}
    for letter in open_door(ctx, url, home).rows("dead-letters", batch_id=batch):
        group = (str(letter.get("reason")), str(letter.get("model")))
        counts[group] += 1
        examples.setdefault(group, str(letter.get("id")))
    rows = [
        {"reason": reason, "model": model, "count": count, "example": examples[reason, model]}
        for (reason, model), count in counts.most_common()
    ]
    show_rows(rows, GROUP_COLUMNS, as_json=as_json)


@app.command("show")
def show_dead_letter(
    ctx: typer.Context,
    *,
    job_id: str,
    as_json: AsJson = False,
    url: Url = None,
    home: HomeFolder = DEFAULT_HOME,
) -> None:
    """Show one dead letter with its whole story: every attempt, reply, complaint and cost."""
    show_object(open_door(ctx, url, home).get("dead-letters", job_id), as_json=as_json)


@app.command("replay")
def replay_dead_letters(
    ctx: typer.Context,
    *,
    job_ids: Annotated[list[str] | None, typer.Argument(help="The dead letters to replay.")] = None,
    reason: Reason = None,
    batch: BatchOf = None,
    everything: Annotated[bool, typer.Option("--all", help="Replay every dead letter there is.")] = False,
    as_json: AsJson = False,
    url: Url = None,
    home: HomeFolder = DEFAULT_HOME,
) -> None:
    """Give dead letters back to their lanes: by id, by --reason and --batch, or --all."""
    chosen = {name: value for name, value in (("reason", reason), ("batch_id", batch)) if value is not None}
    if bool(job_ids) + bool(chosen) + everything != 1:
        raise typer.BadParameter("name ids, or --reason and --batch, or --all")
    body = {"ids": job_ids} if job_ids else {"filter": chosen}
    replayed = open_door(ctx, url, home, as_operator=True).post("dead-letters", "replay", body=body)
    if as_json:
        show_object(replayed, as_json=True)
        return
    ids = replayed.get("replayed", [])
    for job_id in ids if isinstance(ids, list) else []:
        say(str(job_id))
    remark(f"{ids if isinstance(ids, int) else len(ids)} replayed")
