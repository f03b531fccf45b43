"""`penstock limits`."""

from typing import Annotated

import typer

from cli.command_group import CommandGroup
from cli.options import Output, Server
from schemas.jsons import JsonObject

app = CommandGroup(invoke_without_command=True, help="See the provider's limits, who waits, and why nothing is sent.")

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
def list_limits(server: Server, output: Output) -> None:
    """List provider limits, waiting jobs by lane, and why a target receives nothing."""
    if server.ctx.invoked_subcommand is not None:
        return
    rows = server.operator().rows("limits")
    shown = rows if output.as_json else (row | {"waiting": waiting_in_words(row["waiting"])} for row in rows)
    output.rows(shown, COLUMNS)


@app.command("open")
def open_account(
    server: Server,
    output: Output,
    *,
    account: Annotated[str, typer.Argument(help="The part of its targets before the slash.")],
) -> None:
    """Open an account that its provider's error stopped; waiting jobs wake early. Safe to run twice."""
    opened = server.operator().post("limits", "open", body={"account": account})
    reason = opened["was_stopped_for"]
    detail = "it was not stopped" if reason is None else f"it was stopped for {reason}; its jobs wake within seconds"
    output.result(opened, f"{account} is open: {detail}")


def waiting_in_words(lanes: JsonObject | None) -> str | None:
    """Return jobs by lane, such as `high 2, low >=10000`. None means unknown."""
    if lanes is None:
        return None
    return ", ".join(f"{lane} {'>=' if row['capped'] else ''}{row['jobs']}" for lane, row in lanes.items()) or "0"
