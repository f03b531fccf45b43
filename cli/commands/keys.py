"""`penstock keys`: creates, lists and revokes API keys."""

from typing import Annotated

import typer

from cli.options import DEFAULT_HOME, AsJson, HomeFolder, Url, open_api
from cli.output import remark, say, show_json, show_rows

app = typer.Typer(no_args_is_help=True, help="Create, list and revoke API keys.")

COLUMNS = ("id", "tenant_id", "scopes", "prefix", "created_at", "revoked_at")


@app.command("create")
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


@app.command("list")
def list_keys(
    ctx: typer.Context,
    *,
    as_json: AsJson = False,
    url: Url = None,
    home: HomeFolder = DEFAULT_HOME,
) -> None:
    """List keys; the secrets are not kept and cannot be listed."""
    show_rows(open_api(ctx, url, home, as_operator=True).rows("keys"), COLUMNS, as_json=as_json)


@app.command("revoke")
def revoke_key(ctx: typer.Context, *, key_id: str, url: Url = None, home: HomeFolder = DEFAULT_HOME) -> None:
    """Revoke a key: requests with it are refused from now on."""
    open_api(ctx, url, home, as_operator=True).delete("keys", key_id)
    remark(f"{key_id} is revoked")
