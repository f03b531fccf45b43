"""`penstock pause`, `resume`, `move`, `cancel` and `controls`: the operator's hand on work that is under way."""

from typing import Annotated

import typer

from cli.options import DEFAULT_HOME, AsJson, HomeFolder, Url, open_api
from cli.output import remark, show_json, show_rows
from schemas.control import Kind
from schemas.jsons import JsonObject
from schemas.lanes import Lane

COLUMNS = ("verb", "kind", "name", "lane", "under_way", "created_at")

KindName = Annotated[Kind, typer.Argument(help="What it is.", metavar="KIND")]
Name = Annotated[str, typer.Argument(help="Its id or name.", metavar="NAME")]


def pause(
    ctx: typer.Context,
    *,
    kind: KindName,
    name: Name,
    as_json: AsJson = False,
    url: Url = None,
    home: HomeFolder = DEFAULT_HOME,
) -> None:
    """Let nothing more of a job, batch, tenant, model or lane start; calls under way go on."""
    told = open_api(ctx, url, home, as_operator=True).post("controls", "pause", body={"kind": kind, "name": name})
    _tell(told, f"the {kind} {name} is paused; `penstock resume {kind} {name}` lets it go on", as_json=as_json)


def resume(
    ctx: typer.Context,
    *,
    kind: KindName,
    name: Name,
    as_json: AsJson = False,
    url: Url = None,
    home: HomeFolder = DEFAULT_HOME,
) -> None:
    """Let what was paused start again."""
    told = open_api(ctx, url, home, as_operator=True).post("controls", "resume", body={"kind": kind, "name": name})
    _tell(told, f"the {kind} {name} goes on", as_json=as_json)


def move(
    ctx: typer.Context,
    *,
    kind: KindName,
    name: Name,
    lane: Annotated[Lane, typer.Argument(help="The lane that its waiting jobs go to.", metavar="LANE")],
    as_json: AsJson = False,
    url: Url = None,
    home: HomeFolder = DEFAULT_HOME,
) -> None:
    """Put the waiting jobs of a job, batch, tenant or model into another lane."""
    body = {"kind": kind, "name": name, "lane": lane}
    told = open_api(ctx, url, home, as_operator=True).post("controls", "move", body=body)
    _tell(told, f"{told.get('jobs')} jobs moved to {lane}{_rest(told)}", as_json=as_json)


def cancel(
    ctx: typer.Context,
    *,
    kind: KindName,
    name: Name,
    as_json: AsJson = False,
    url: Url = None,
    home: HomeFolder = DEFAULT_HOME,
) -> None:
    """Cancel the waiting jobs of a job, batch, tenant or model."""
    told = open_api(ctx, url, home, as_operator=True).post("controls", "cancel", body={"kind": kind, "name": name})
    _tell(told, f"{told.get('jobs')} jobs cancelled{_rest(told)}", as_json=as_json)


def controls(ctx: typer.Context, *, as_json: AsJson = False, url: Url = None, home: HomeFolder = DEFAULT_HOME) -> None:
    """List what is paused, and what is being moved or cancelled."""
    show_rows(open_api(ctx, url, home, as_operator=True).rows("controls"), COLUMNS, as_json=as_json)


def _tell(told: JsonObject, words: str, *, as_json: bool) -> None:
    if as_json:
        show_json(told)
    else:
        remark(words)


def _rest(told: JsonObject) -> str:
    return "; the others follow, and none of them starts before" if told.get("under_way") else ""
