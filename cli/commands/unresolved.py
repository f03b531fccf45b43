"""`penstock budgets suspense`: calls that may have been billed, and the operator's word on what they cost."""

from typing import Annotated

import typer

from cli.options import DEFAULT_HOME, DEFAULT_LIMIT, AsJson, HomeFolder, Limit, Url, open_api
from cli.output import remark, show_object, show_rows
from schemas.jsons import JsonObject

COLUMNS = ("id", "job_id", "target", "counters", "reserved_usd", "since", "why", "resolved_by", "resolved_at")

Resolve = Annotated[str | None, typer.Option("--resolve", metavar="ATTEMPT", help="Say what this one came to.")]
Billed = Annotated[str | None, typer.Option("--billed", metavar="USD", help="The invoice has it, at so much.")]
Released = Annotated[bool, typer.Option("--released", help="It was never billed.")]


def suspense(
    ctx: typer.Context,
    *,
    resolve: Resolve = None,
    billed: Billed = None,
    released: Released = False,
    limit: Limit = DEFAULT_LIMIT,
    as_json: AsJson = False,
    url: Url = None,
    home: HomeFolder = DEFAULT_HOME,
) -> None:
    """List what may have been billed and nobody knows, oldest first; or resolve one of them. Safe to run twice."""
    api = open_api(ctx, url, home, as_operator=True)
    if resolve is None:
        if billed is not None or released:
            raise typer.BadParameter("--billed and --released say something of the attempt that --resolve names")
        rows = api.rows("budgets", "suspense", at_most=limit)
        show_rows(rows if as_json else map(_in_a_line, rows), COLUMNS, as_json=as_json)
        return
    if (billed is None) != released:
        raise typer.BadParameter("--resolve wants either --billed USD or --released")
    word: JsonObject = {"released": True} if released else {"billed_usd": billed}
    done = api.post("budgets", "suspense", resolve, body=word)
    if as_json:
        show_object(done, as_json=True)
        return
    remark(f"{done['id']} is {done['state']} at {done['billed_usd']} USD; {done['reserved_usd']} were reserved")


def _in_a_line(row: JsonObject) -> JsonObject:
    return row | {"counters": ", ".join(row["counters"]) or None}
