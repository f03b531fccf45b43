"""Follows a replay and prints its progress to stderr."""

import time

from cli.client.errors import ReplayStopped
from cli.client.http import ApiClient
from cli.output import ProgressLines, remark
from schemas.jsons import JsonObject
from schemas.replay import ReplayState

LOOK_SECONDS = 0.5
LINE_SECONDS = 2.0


def follow(api: ApiClient, begun: JsonObject) -> JsonObject:
    """Return the ended replay. Raises ReplayStopped if its canaries stopped it."""
    replay, lines = begun, ProgressLines(LINE_SECONDS, remark)
    while ReplayState(replay["state"]).under_way:
        lines.show(_line(replay))
        time.sleep(LOOK_SECONDS)
        replay = api.get("replays", str(begun["id"]))
    remark(_line(replay))
    if replay["state"] == ReplayState.STOPPED:
        raise ReplayStopped(f"{begun['id']}: {replay['detail']}; `penstock replays resume` goes on all the same")
    return replay


def _line(replay: JsonObject) -> str:
    refused = f", {replay['refused']} refused" if replay["refused"] else ""
    detail = f" ({replay['detail']})" if replay["detail"] else ""
    return f"{replay['state']}: {replay['replayed']} of {replay['total']} replayed{refused}{detail}"
