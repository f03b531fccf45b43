"""`penstock replays`: look at replays, stop one, or let one go on that its canaries have stopped."""

import typer

from cli.options import DEFAULT_HOME, DEFAULT_LIMIT, AsJson, HomeFolder, Limit, Url, open_api
from cli.output import remark, say, show_object, show_rows

app = typer.Typer(no_args_is_help=True, help="Look at replays of dead letters; stop one.")

COLUMNS = ("id", "state", "total", "replayed", "refused", "per_second", "detail", "created_at", "finished_at")


@app.command("list")
def list_replays(
    ctx: typer.Context,
    *,
    limit: Limit = DEFAULT_LIMIT,
    as_json: AsJson = False,
    url: Url = None,
    home: HomeFolder = DEFAULT_HOME,
) -> None:
    """List replays, newest first."""
    show_rows(open_api(ctx, url, home).rows("replays", at_most=limit), COLUMNS, as_json=as_json)


@app.command("show")
def show_replay(
    ctx: typer.Context, *, replay_id: str, as_json: AsJson = False, url: Url = None, home: HomeFolder = DEFAULT_HOME
) -> None:
    """Show how far a replay is, and what became of its jobs."""
    show_object(open_api(ctx, url, home).get("replays", replay_id), as_json=as_json)


@app.command("cancel")
def cancel_replay(ctx: typer.Context, *, replay_id: str, url: Url = None, home: HomeFolder = DEFAULT_HOME) -> None:
    """Stop a replay: what was replayed goes on, the rest stays dead."""
    _tell(open_api(ctx, url, home, as_operator=True).post("replays", replay_id, "cancel"))


@app.command("resume")
def resume_replay(ctx: typer.Context, *, replay_id: str, url: Url = None, home: HomeFolder = DEFAULT_HOME) -> None:
    """Go on with a replay that its canaries have stopped."""
    _tell(open_api(ctx, url, home, as_operator=True).post("replays", replay_id, "resume"))


def _tell(replay: dict[str, object]) -> None:
    say(str(replay["id"]))
    remark(f"{replay['state']}: {replay['replayed']} of {replay['total']} replayed")
