"""`[tenants.NAME]` of penstock.toml: the limits of one tenant in a shared installation."""

from typing import Annotated, Literal, TypeAlias

from pydantic import Field, Strict

from config.tables import Table

LaneName: TypeAlias = Literal["critical", "high", "normal", "low"]

EVERY_TENANT = "*"
"""Name of the table that applies to every tenant. A tenant's own table overrides it, limit by limit."""

UNLIMITED = "unlimited"
"""Removes a limit that other tenants have."""

WAITING_BATCHES = 1_000
"""Batches of a tenant that may wait to be read, if no table sets it: a normal one is read within seconds."""

TenantName: TypeAlias = Annotated[str, Field(pattern=r"^(\*|[A-Za-z0-9._-]{1,128})$")]
TenantLimit: TypeAlias = Annotated[int, Field(ge=1)] | Literal["unlimited"] | None


class TenantTable(Table):
    """Limits of one tenant.

    An omitted limit is that of `[tenants."*"]`. Omitted there too, it is unlimited, except `waiting_batches`
    (WAITING_BATCHES).

    Calls, requests and tokens count over all models and all processes; connections count in each web process.
    """

    calls_in_flight: TenantLimit = None
    requests_per_minute: TenantLimit = None
    tokens_per_minute: TenantLimit = None
    open_jobs: TenantLimit = None
    waiting_batches: TenantLimit = None
    bytes_stored: TenantLimit = None
    connections: TenantLimit = None
    lanes: Annotated[tuple[LaneName, ...], Strict(strict=False), Field(min_length=1)] | None = None
