"""`penstock budgets`, `limits` and `keys`: what the operator watches and hands out."""

import csv
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import DEFAULT_HOME, AsJson, HomeFolder, Url, open_api
from cli.output import remark, say, show_json, show_object, show_rows
from schemas.money import NanoUsd, nano_from_usd, usd_text

if TYPE_CHECKING:
    from schemas.jsons import JsonObject

budgets = typer.Typer(no_args_is_help=True, help="See what may be spent and what has been.")
limits = typer.Typer(invoke_without_command=True, help="See the provider's limits, who waits, and why nothing is sent.")
keys = typer.Typer(no_args_is_help=True, help="Create, list and revoke API keys.")

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
LIMIT_COLUMNS = (
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
KEY_COLUMNS = ("id", "tenant_id", "scopes", "prefix", "created_at", "revoked_at")


@budgets.command("list")
def list_budgets(
    ctx: typer.Context,
    *,
    as_json: AsJson = False,
    url: Url = None,
    home: HomeFolder = DEFAULT_HOME,
) -> None:
    """List budgets with what is settled and reserved in the window that runs now."""
    show_rows(open_api(ctx, url, home, as_operator=True).rows("budgets"), BUDGET_COLUMNS, as_json=as_json)


@budgets.command("show")
def show_budget(
    ctx: typer.Context, *, scope: str, as_json: AsJson = False, url: Url = None, home: HomeFolder = DEFAULT_HOME
) -> None:
    """Show the budgets of one scope."""
    rows = open_api(ctx, url, home, as_operator=True).rows("budgets")
    show_rows((row for row in rows if row["scope"] == scope), BUDGET_COLUMNS, as_json=as_json)


@budgets.command("set")
def set_budget(
    ctx: typer.Context,
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
    as_json: AsJson = False,
    url: Url = None,
    home: HomeFolder = DEFAULT_HOME,
) -> None:
    """Change one budget; it stands until penstock.toml says something new of it."""
    body: JsonObject = {"scope": scope, "window": window, "limit_usd": limit, "timezone": timezone}
    if on_exhausted:
        body["on_exhausted"] = on_exhausted
    body |= {name: value for name, value in (("pacing", pacing), ("pacing_ahead", ahead)) if value is not None}
    changed = open_api(ctx, url, home, as_operator=True).post("budgets", body=body)
    if as_json:
        show_json(changed)
        return
    remark(f"{scope} may spend {changed['limit_usd']} USD per {window} in {timezone}, within seconds")


@budgets.command("report")
def report(
    ctx: typer.Context,
    *,
    by: Annotated[
        str, typer.Option("--by", help="tenant, user, model, prompt, lane, tier, batch, day, cause; commas between.")
    ] = "tenant",
    days: Annotated[int, typer.Option("--days", min=1, help="So many days back.")] = 30,
    timezone: Annotated[str, typer.Option("--timezone", help="Whose days.")] = "UTC",
    tenant: Annotated[str, typer.Option("--tenant", help="Of one tenant only.")] = "",
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    as_json: AsJson = False,
    url: Url = None,
    home: HomeFolder = DEFAULT_HOME,
) -> None:
    """Show what was spent on what, and what of it bought nothing."""
    api = open_api(ctx, url, home, as_operator=True)
    rows = api.get("budgets", "report", by=by, days=days, timezone=timezone, tenant=tenant)["data"]
    columns = (*by.split(","), *SPEND_COLUMNS)
    if as_csv:
        writer = csv.DictWriter(sys.stdout, columns)
        writer.writeheader()
        writer.writerows(rows)
        return
    show_rows(rows, columns, as_json=as_json)


@budgets.command("reprice")
def reprice(
    ctx: typer.Context,
    *,
    since: Annotated[
        datetime, typer.Option("--since", formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"], help="From, in UTC.")
    ],
    model: Annotated[str | None, typer.Option("--model", help="Of one model only.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be adjusted.")] = False,
    as_json: AsJson = False,
    url: Url = None,
    home: HomeFolder = DEFAULT_HOME,
) -> None:
    """Price history again as of its moments; differences become adjusting entries. Safe to run twice."""
    api = open_api(ctx, url, home, as_operator=True)
    body: JsonObject = {"since": since.replace(tzinfo=UTC).isoformat(), "model": model, "dry_run": dry_run}
    counts, adjusted = dict.fromkeys(("checked", "unpriced", "adjusted"), 0), NanoUsd(0)
    after: str | None = ""
    while after is not None:
        done = api.post("budgets", "reprice", body=body | {"after": after})
        counts = {name: number + int(done[name]) for name, number in counts.items()}
        adjusted = NanoUsd(adjusted + nano_from_usd(done["adjusted_usd"]))
        after = done["after"]
    told: JsonObject = {**counts, "adjusted_usd": usd_text(adjusted), "dry_run": dry_run}
    show_object(told, as_json=as_json)


@limits.callback()
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
    show_rows(told, LIMIT_COLUMNS, as_json=as_json)


@limits.command("open")
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


def waiting_in_words(lanes: "JsonObject | None") -> str | None:
    """Jobs by lane, `high 2, low >=10000`; nobody waits for `0`, and None is unknown."""
    if lanes is None:
        return None
    return ", ".join(f"{lane} {'>=' if one['capped'] else ''}{one['jobs']}" for lane, one in lanes.items()) or "0"


@keys.command("create")
def create_key(
    ctx: typer.Context,
    *,
    tenant: Annotated[str, typer.Option("--tenant", help="The tenant that it acts for.")] = "default",
    operator: Annotated[bool, typer.Option("--operator", help="Let it act for every tenant.")] = False,
    as_json: AsJson = False,
    url: Url = None,
    home: HomeFolder = DEFAULT_HOME,
) -> None:
    """Create a key and print it; it cannot be shown again."""
    body = {"tenant_id": tenant, "scopes": ["operator", "submit"] if operator else ["submit"]}
    created = open_api(ctx, url, home, as_operator=True).post("keys", body=body)
    if as_json:
        show_json(created)
        return
    say(str(created["key"]))
    remark(f"{created['id']} for the tenant {tenant}; this is the only time that the key is shown")


@keys.command("list")
def list_keys(
    ctx: typer.Context,
    *,
    as_json: AsJson = False,
    url: Url = None,
    home: HomeFolder = DEFAULT_HOME,
) -> None:
    """List keys; the secrets are not kept and cannot be listed."""
    show_rows(open_api(ctx, url, home, as_operator=True).rows("keys"), KEY_COLUMNS, as_json=as_json)


@keys.command("revoke")
def revoke_key(ctx: typer.Context, *, key_id: str, url: Url = None, home: HomeFolder = DEFAULT_HOME) -> None:
    """Revoke a key: requests with it are refused from now on."""
    open_api(ctx, url, home, as_operator=True).delete("keys", key_id)
    remark(f"{key_id} is revoked")
