"""`penstock budgets`."""

import csv
import sys
from datetime import UTC, datetime
from typing import Annotated

import typer

from cli.command_group import CommandGroup
from cli.options import DEFAULT_LIMIT, Limit, Output, Server
from schemas.jsons import JsonObject
from schemas.money import NanoUsd, nano_from_usd, usd_text

app = CommandGroup(no_args_is_help=True, help="See what may be spent and what has been.")

BUDGET_COLUMNS = (
    "scope",
    "window",
    "limit_usd",
    "settled_usd",
    "reserved_usd",
    "left_usd",
    "pace_usd",
    "full_at",
    "resets_at",
)
SPEND_COLUMNS = ("entries", "spent_usd", "wasted_usd")
SUSPENSE_COLUMNS = ("id", "job_id", "target", "counters", "reserved_usd", "since", "why", "resolved_by", "resolved_at")

Resolve = Annotated[str | None, typer.Option("--resolve", metavar="ATTEMPT", help="Say what this one came to.")]
Billed = Annotated[str | None, typer.Option("--billed", metavar="USD", help="The invoice has it, at so much.")]
Released = Annotated[bool, typer.Option("--released", help="It was never billed.")]


@app.command("list")
def list_budgets(server: Server, output: Output) -> None:
    """List budgets with settled and reserved amounts of the current window."""
    output.rows(server.operator().rows("budgets"), BUDGET_COLUMNS)


@app.command("show")
def show_budget(server: Server, output: Output, *, scope: str) -> None:
    """Show the budgets of one scope."""
    rows = server.operator().rows("budgets")
    output.rows((row for row in rows if row["scope"] == scope), BUDGET_COLUMNS)


@app.command("set")
def set_budget(
    server: Server,
    output: Output,
    *,
    scope: Annotated[str, typer.Argument(help="global, tenant, user, batch, prompt, or KIND:NAME.")],
    window: Annotated[str, typer.Argument(help="hour, day or month.")],
    limit: Annotated[str, typer.Argument(help="USD per window.")],
    timezone: Annotated[str, typer.Option("--timezone", help="Whose hours, days and months.")] = "UTC",
    on_exhausted: Annotated[
        list[str] | None, typer.Option("--on-exhausted", help="cheaper, cached, park, reject; in this order.")
    ] = None,
    pacing: Annotated[
        str | None, typer.Option("--pacing", help="even: spend no faster than the window passes.")
    ] = None,
    ahead: Annotated[
        float | None, typer.Option("--pacing-ahead", help="So much of the limit ahead of the pace; default 0.1.")
    ] = None,
) -> None:
    """Change one budget, until penstock.toml changes it."""
    body: JsonObject = {"scope": scope, "window": window, "limit_usd": limit, "timezone": timezone}
    chosen = {"on_exhausted": on_exhausted or None, "pacing": pacing, "pacing_ahead": ahead}
    body |= {name: value for name, value in chosen.items() if value is not None}
    changed = server.operator().post("budgets", body=body)
    output.result(changed, f"{scope} may spend {changed['limit_usd']} USD per {window} in {timezone}, within seconds")


@app.command("report")
def report(
    server: Server,
    output: Output,
    *,
    by: Annotated[
        str, typer.Option("--by", help="tenant, user, model, prompt, lane, tier, batch, day, cause; commas between.")
    ] = "tenant",
    days: Annotated[int, typer.Option("--days", min=1, help="So many days back.")] = 30,
    timezone: Annotated[str, typer.Option("--timezone", help="Whose days.")] = "UTC",
    tenant: Annotated[str, typer.Option("--tenant", help="Of one tenant only.")] = "",
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
) -> None:
    """Show spending, and what of it bought nothing."""
    api = server.operator()
    rows = api.get("budgets", "report", by=by, days=days, timezone=timezone, tenant=tenant)["data"]
    columns = (*by.split(","), *SPEND_COLUMNS)
    if as_csv:
        writer = csv.DictWriter(sys.stdout, columns)
        writer.writeheader()
        writer.writerows(rows)
        return
    output.rows(rows, columns)


@app.command("reprice")
def reprice(
    server: Server,
    output: Output,
    *,
    since: Annotated[
        datetime, typer.Option("--since", formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"], help="From, in UTC.")
    ],
    model: Annotated[str | None, typer.Option("--model", help="Of one model only.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be adjusted.")] = False,
) -> None:
    """Price history again and book the differences. Safe to run twice."""
    api = server.operator()
    body: JsonObject = {"since": since.replace(tzinfo=UTC).isoformat(), "model": model, "dry_run": dry_run}
    counts, adjusted = dict.fromkeys(("checked", "unpriced", "adjusted"), 0), NanoUsd(0)
    after: str | None = ""
    while after is not None:
        done = api.post("budgets", "reprice", body=body | {"after": after})
        counts = {name: number + int(done[name]) for name, number in counts.items()}
        adjusted = NanoUsd(adjusted + nano_from_usd(done["adjusted_usd"]))
        after = done["after"]
    totals: JsonObject = {**counts, "adjusted_usd": usd_text(adjusted), "dry_run": dry_run}
    output.resource(totals)


@app.command("adjust")
def adjust(
    server: Server,
    output: Output,
    *,
    attempt_id: Annotated[str, typer.Argument(help="The attempt, as `jobs show` names it.")],
    amount: Annotated[
        str, typer.Option("--amount", metavar="USD", help="What the invoice adds; negative, what it takes away.")
    ],
    note: Annotated[str, typer.Option("--note", help="Why, such as the number of the invoice.")],
    key: Annotated[str, typer.Option("--key", help="An idempotency key: the same command again is one entry.")],
) -> None:
    """Book an invoice's difference in the budget windows of the call. Safe to run twice."""
    body: JsonObject = {"attempt_id": attempt_id, "amount_usd": amount, "note": note}
    done = server.operator().post("budgets", "adjust", body=body, headers={"idempotency-key": key})
    output.result(done, f"{attempt_id} is adjusted by {done['amount_usd']} USD to {done['booked_usd']} USD")


@app.command("suspense")
def suspense(
    server: Server,
    output: Output,
    *,
    resolve: Resolve = None,
    billed: Billed = None,
    released: Released = False,
    limit: Limit = DEFAULT_LIMIT,
) -> None:
    """List unresolved charges, oldest first, or resolve one. Safe to run twice."""
    api = server.operator()
    if resolve is None:
        if billed is not None or released:
            raise typer.BadParameter("--billed and --released say something of the attempt that --resolve names")
        rows = api.rows("budgets", "suspense", at_most=limit)
        output.rows(rows if output.as_json else map(_in_a_line, rows), SUSPENSE_COLUMNS)
        return
    if (billed is None) != released:
        raise typer.BadParameter("--resolve wants either --billed USD or --released")
    resolution: JsonObject = {"released": True} if released else {"billed_usd": billed}
    done = api.post("budgets", "suspense", resolve, body=resolution)
    output.result(
        done, f"{done['id']} is {done['state']} at {done['billed_usd']} USD; {done['reserved_usd']} were reserved"
    )


def _in_a_line(row: JsonObject) -> JsonObject:
    return row | {"counters": ", ".join(row["counters"]) or None}
