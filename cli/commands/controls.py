"""`penstock pause`, `resume`, `move`, `cancel` and `controls`: the operator's control of work that is under way."""

from typing import Annotated

import typer

from cli.options import Output, Server
from schemas.control import Kind
from schemas.jsons import JsonObject
from schemas.lanes import Lane

COLUMNS = ("verb", "kind", "name", "lane", "under_way", "created_at")

KindName = Annotated[Kind, typer.Argument(help="What it is.", metavar="KIND")]
Name = Annotated[str, typer.Argument(help="Its id or name.", metavar="NAME")]


def pause(server: Server, output: Output, *, kind: KindName, name: Name) -> None:
    """Let nothing more of a job, batch, tenant, model or lane start; calls under way go on."""
    done = server.operator().post("controls", "pause", body={"kind": kind, "name": name})
    output.result(done, f"the {kind} {name} is paused; `penstock resume {kind} {name}` lets it go on")


def resume(server: Server, output: Output, *, kind: KindName, name: Name) -> None:
    """Let what was paused start again."""
    done = server.operator().post("controls", "resume", body={"kind": kind, "name": name})
    output.result(done, f"the {kind} {name} goes on")


def move(
    server: Server,
    output: Output,
    *,
    kind: KindName,
    name: Name,
    lane: Annotated[Lane, typer.Argument(help="The lane that its waiting jobs go to.", metavar="LANE")],
) -> None:
    """Put the waiting jobs of a job, batch, tenant or model into another lane."""
    done = server.operator().post("controls", "move", body={"kind": kind, "name": name, "lane": lane})
    output.result(done, f"{done.get('jobs')} jobs moved to {lane}{_rest(done)}")


def cancel(server: Server, output: Output, *, kind: KindName, name: Name) -> None:
    """Cancel the waiting jobs of a job, batch, tenant or model."""
    done = server.operator().post("controls", "cancel", body={"kind": kind, "name": name})
    output.result(done, f"{done.get('jobs')} jobs cancelled{_rest(done)}")


def controls(server: Server, output: Output) -> None:
    """List what is paused, and what is being moved or cancelled."""
    output.rows(server.operator().rows("controls"), COLUMNS)


def _rest(done: JsonObject) -> str:
    return "; the others follow, and none of them starts before" if done.get("under_way") else ""
