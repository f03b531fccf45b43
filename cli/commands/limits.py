"""`penstock limits`: the provider's limits, who waits, and the opening of a stopped account."""

from typing import Annotated

import typer

from cli.options import DEFAULT_HOME, AsJson, HomeFolder, Url, open_api
from cli.output import remark, show_json, show_rows
from schemas.jsons import JsonObject

app = typer.Typer(invoke_without_command=True, help="See the provider's limits, who waits, and why nothing is sent.")

COLUMNS = (
    "target",
    "limit",
    "configured",
    "learned",
    "effective",
    "used",
    "waiting",
    "frozen_until",
    "shut_by",
    "stopped",
)


@app.callback()
def list_limits(
    ctx: typer.Context,
    *,
    as_json: AsJson = False,
    url: Url = None,
    home: HomeFolder = DEFAULT_HOME,
) -> None:
    """See the provider's limits: configured, learned, effective and used; who waits, and why nothing is sent."""
    if ctx.invoked_subcommand is not None:
        return
    rows = open_api(ctx, url, home, as_operator=True).rows("limits")
    told = rows if as_json else (row | {"waiting": waiting_in_words(row["waiting"])} for row in rows)
    show_rows(told, COLUMNS, as_json=as_json)


@app.command("open")
def open_account(
    ctx: typer.Context,
    *,
    account: Annotated[str, typer.Argument(help="The part of its targets before the slash.")],
    as_json: AsJson = False,
    url: Url = None,
    home: HomeFolder = DEFAULT_HOME,
) -> None:
    """Open an account that its provider's word has stopped; jobs that wait for it wake. Safe to run twice."""
    opened = open_api(ctx, url, home, as_operator=True).post("limits", "open", body={"account": account})
    if as_json:
        show_json(opened)
        return
    reason = opened["was_stopped_for"]
    said = "it was not stopped" if reason is None else f"it was stopped for {reason}; its jobs wake within seconds"
    remark(f"{account} is open: {said}")


def waiting_in_words(lanes: JsonObject | None) -> str | None:
    """Jobs by lane, `high 2, low >=10000`; nobody waits for `0`, and None is unknown."""
    if lanes is None:
        return None
    return ", ".join(f"{lane} {'>=' if one['capped'] else ''}{one['jobs']}" for lane, one in lanes.items()) or "0"
