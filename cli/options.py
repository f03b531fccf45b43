"""Options that many commands share, and the API client that they choose."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from cli.client.address import find_address
from cli.client.http import ApiClient
from schemas.lanes import Lane

Url = Annotated[
    str | None, typer.Option("--url", help="The penstock to speak to. Default: PENSTOCK_URL, else the one of --home.")
]
HomeFolder = Annotated[
    Path, typer.Option("--home", envvar="PENSTOCK_HOME", help="The home folder of a stack on this machine.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Limit = Annotated[int, typer.Option("--limit", min=1, help="Show at most so many.")]
LaneName = Annotated[Lane | None, typer.Option("--lane", help="One priority class.")]
BatchOf = Annotated[str | None, typer.Option("--batch", help="Only those of this batch.")]

DEFAULT_HOME = Path(".penstock")
DEFAULT_LIMIT = 50


def environment(ctx: typer.Context) -> Mapping[str, str]:
    """The environment that `run` was given; no command reads the process's own."""
    env: Mapping[str, str] = ctx.find_root().obj
    return env


def open_api(ctx: typer.Context, url: str | None, home: Path, *, as_operator: bool = False) -> ApiClient:
    """The client of the API that these options name."""
    return ApiClient(find_address(url, home, environment(ctx), as_operator=as_operator))
