"""`penstock keys`."""

from typing import Annotated

import typer

from cli.command_group import CommandGroup
from cli.options import Output, Server
from cli.output import remark

app = CommandGroup(no_args_is_help=True, help="Create, list and revoke API keys.")

COLUMNS = ("id", "tenant_id", "scopes", "prefix", "created_at", "revoked_at")


@app.command("create")
def create_key(
    server: Server,
    output: Output,
    *,
    tenant: Annotated[str, typer.Option("--tenant", help="The tenant that it acts for.")] = "default",
    operator: Annotated[bool, typer.Option("--operator", help="Let it act for every tenant.")] = False,
) -> None:
    """Create a key and print it; it is shown once."""
    body = {"tenant_id": tenant, "scopes": ["operator", "submit"] if operator else ["submit"]}
    created = server.operator().post("keys", body=body)
    output.lines(created, [created["key"]])
    if not output.as_json:
        remark(f"{created['id']} for the tenant {tenant}; this is the only time that the key is shown")


@app.command("list")
def list_keys(server: Server, output: Output) -> None:
    """List keys without their secrets."""
    output.rows(server.operator().rows("keys"), COLUMNS)


@app.command("revoke")
def revoke_key(server: Server, *, key_id: str) -> None:
    """Revoke a key."""
    server.operator().delete("keys", key_id)
    remark(f"{key_id} is revoked")
