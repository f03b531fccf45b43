"""`penstock replays`."""

from cli.command_group import CommandGroup
from cli.options import DEFAULT_LIMIT, Limit, Output, Server
from cli.output import remark, say

app = CommandGroup(no_args_is_help=True, help="Look at replays of dead letters; stop one.")

COLUMNS = ("id", "state", "total", "replayed", "refused", "per_second", "detail", "created_at", "finished_at")


@app.command("list")
def list_replays(server: Server, output: Output, *, limit: Limit = DEFAULT_LIMIT) -> None:
    """List replays, newest first."""
    output.rows(server.client().rows("replays", at_most=limit), COLUMNS)


@app.command("show")
def show_replay(server: Server, output: Output, *, replay_id: str) -> None:
    """Show a replay's progress and its jobs' outcomes."""
    output.resource(server.client().get("replays", replay_id))


@app.command("cancel")
def cancel_replay(server: Server, *, replay_id: str) -> None:
    """Stop a replay; jobs replayed already continue."""
    _show(server.operator().post("replays", replay_id, "cancel"))


@app.command("resume")
def resume_replay(server: Server, *, replay_id: str) -> None:
    """Resume a replay that its canaries stopped."""
    _show(server.operator().post("replays", replay_id, "resume"))


def _show(replay: dict[str, object]) -> None:
    say(str(replay["id"]))
    remark(f"{replay['state']}: {replay['replayed']} of {replay['total']} replayed")
