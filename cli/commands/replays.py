"""`penstock replays`, and the progress of a replay on stderr."""

import time

from cli.client.errors import ReplayStopped
from cli.client.http import ApiClient
from cli.command_group import CommandGroup
from cli.options import DEFAULT_LIMIT, Limit, Output, Server
from cli.output import ProgressLines, remark, say
from schemas.jsons import JsonObject
from schemas.replay import ReplayState

app = CommandGroup(no_args_is_help=True, help="Look at replays of dead letters; stop one.")

COLUMNS = ("id", "state", "total", "replayed", "refused", "per_second", "detail", "created_at", "finished_at")
LOOK_SECONDS = 0.5
LINE_SECONDS = 2.0


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


def follow(api: ApiClient, begun: JsonObject) -> JsonObject:
    """Print a replay's progress until it ends. Raises ReplayStopped if its canaries stopped it."""
    replay, lines = begun, ProgressLines(LINE_SECONDS, remark)
    while ReplayState(replay["state"]).under_way:
        lines.show(_line(replay))
        time.sleep(LOOK_SECONDS)
        replay = api.get("replays", str(begun["id"]))
    remark(_line(replay))
    if replay["state"] == ReplayState.STOPPED:
        raise ReplayStopped(f"{begun['id']}: {replay['detail']}; `penstock replays resume` goes on all the same")
    return replay


def _show(replay: JsonObject) -> None:
    say(str(replay["id"]))
    remark(f"{replay['state']}: {replay['replayed']} of {replay['total']} replayed")


def _line(replay: JsonObject) -> str:
    refused = f", {replay['refused']} refused" if replay["refused"] else ""
    detail = f" ({replay['detail']})" if replay["detail"] else ""
    return f"{replay['state']}: {replay['replayed']} of {replay['total']} replayed{refused}{detail}"
