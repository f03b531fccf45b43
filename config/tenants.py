"""`[tenants.NAME]` of penstock.toml: limits of one tenant."""

from typing import Annotated, Literal, TypeAlias

from pydantic import Field, Strict

from config.tables import Table

LaneName: TypeAlias = Literal["critical", "high", "normal", "low"]

EVERY_TENANT = "*"
"""The table for every tenant; a tenant's own table overrides it per limit."""

UNLIMITED = "unlimited"
"""Removes a limit that other tenants have."""

WAITING_BATCHES = 1_000
"""Default limit of a tenant's unread batches; a normal one is read within seconds."""

TenantName: TypeAlias = Annotated[str, Field(pattern=r"^(\*|[A-Za-z0-9._-]{1,128})$")]
TenantLimit: TypeAlias = Annotated[int, Field(ge=1)] | Literal["unlimited"] | None


class TenantTable(Table):
    """Limits of one tenant.

    An omitted limit is that of `[tenants."*"]`, else unlimited, except `waiting_batches` (WAITING_BATCHES). Connections
    count per web process, the others over all models and processes.
    """

    calls_in_flight: TenantLimit = None
    requests_per_minute: TenantLimit = None
    tokens_per_minute: TenantLimit = None
    open_jobs: TenantLimit = None
    waiting_batches: TenantLimit = None
    bytes_stored: TenantLimit = None
    connections: TenantLimit = None
    lanes: Annotated[tuple[LaneName, ...], Strict(strict=False), Field(min_length=1)] | None = None
