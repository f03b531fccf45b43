"""Follows a replay and prints its progress to stderr."""

import time
from collections.abc import Callable

from cli.client.errors import ReplayStopped
from cli.client.http import ApiClient
from cli.output import remark
from schemas.jsons import JsonObject
from schemas.replay import ReplayState

LOOK_SECONDS = 0.5
LINE_SECONDS = 2.0


def follow(api: ApiClient, begun: JsonObject, *, pause: Callable[[float], None] = time.sleep) -> JsonObject:
    """Return the ended replay. Raises ReplayStopped if its canaries stopped it."""
    replay, printed, printed_at = begun, "", float("-inf")
    while ReplayState(replay["state"]).under_way:
        line = _line(replay)
        if line != printed and time.monotonic() - printed_at >= LINE_SECONDS:
            remark(line)
            printed, printed_at = line, time.monotonic()
        pause(LOOK_SECONDS)
        replay = api.get("replays", str(begun["id"]))
    remark(_line(replay))
    if replay["state"] == ReplayState.STOPPED:
        raise ReplayStopped(f"{begun['id']}: {replay['detail']}; `penstock replays resume` goes on all the same")
    return replay


def _line(replay: JsonObject) -> str:
    refused = f", {replay['refused']} refused" if replay["refused"] else ""
    detail = f" ({replay['detail']})" if replay["detail"] else ""
    return f"{replay['state']}: {replay['replayed']} of {replay['total']} replayed{refused}{detail}"
