"""`penstock pause`, `resume`, `move`, `cancel` and `controls`."""

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
    """Pause a job, batch, tenant, model or lane; running calls continue."""
    done = server.operator().post("controls", "pause", body={"kind": kind, "name": name})
    output.result(done, f"the {kind} {name} is paused; `penstock resume {kind} {name}` lets it go on")


def resume(server: Server, output: Output, *, kind: KindName, name: Name) -> None:
    """Resume what was paused."""
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
    """Move waiting jobs of a job, batch, tenant or model to another lane."""
    done = server.operator().post("controls", "move", body={"kind": kind, "name": name, "lane": lane})
    output.result(done, f"{done.get('jobs')} jobs moved to {lane}{_rest(done)}")


def cancel(server: Server, output: Output, *, kind: KindName, name: Name) -> None:
    """Cancel waiting jobs of a job, batch, tenant or model."""
    done = server.operator().post("controls", "cancel", body={"kind": kind, "name": name})
    output.result(done, f"{done.get('jobs')} jobs cancelled{_rest(done)}")


def controls(server: Server, output: Output) -> None:
    """List pauses, and moves and cancellations in progress."""
    output.rows(server.operator().rows("controls"), COLUMNS)


def _rest(done: JsonObject) -> str:
    return "; the others follow, and none of them starts before" if done.get("under_way") else ""
