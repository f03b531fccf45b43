"""Options that commands share."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.client.address import find_address
from cli.client.http import ApiClient
from cli.output import remark, say, show_json, show_object, show_rows
from schemas.jsons import JsonObject
from schemas.lanes import Lane

DEFAULT_HOME = Path(".penstock")
DEFAULT_LIMIT = 50


def typed_nearest(ctx: typer.Context, param: typer.CallbackParam, value: Any) -> Any:  # noqa: ANN401 - of any option
    """Return the value typed after the verb, else before it, else the default."""
    if _is_typed(ctx.get_parameter_source(param.name)):
        return value
    above = ctx.parent
    while above is not None and not _is_typed(above.get_parameter_source(param.name)):
        above = above.parent
    return value if above is None else above.params[param.name]


def _is_typed(source: Enum | None) -> bool:
    return source is not None and source.name == "COMMANDLINE"


Url = Annotated[
    str | None,
    typer.Option(
        "--url",
        callback=typed_nearest,
        help="The penstock to speak to. Default: PENSTOCK_URL, else the one of --home.",
    ),
]
HomeFolder = Annotated[
    Path,
    typer.Option(
        "--home",
        callback=typed_nearest,
        envvar="PENSTOCK_HOME",
        help="The home folder of a stack on this machine.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", callback=typed_nearest, help="Print JSON.")]
Limit = Annotated[int, typer.Option("--limit", min=1, help="Show at most so many.")]
LaneName = Annotated[Lane | None, typer.Option("--lane", help="One priority class.")]
BatchOf = Annotated[str | None, typer.Option("--batch", help="Only those of this batch.")]


def environment(ctx: typer.Context) -> Mapping[str, str]:
    """Return the environment passed to `run`; commands do not read the process's own."""
    env: Mapping[str, str] = ctx.find_root().obj
    return env


@dataclass(frozen=True, kw_only=True)
class Server:
    """Options that select a running Penstock."""

    ctx: typer.Context
    url: Url = None
    home: HomeFolder = DEFAULT_HOME

    def client(self) -> ApiClient:
        """Return a client with the submitter's key. Raises InvalidSetting and Unauthenticated."""
        return ApiClient(find_address(self.url, self.home, environment(self.ctx)))

    def operator(self) -> ApiClient:
        """Return a client with the operator's key. Raises InvalidSetting and Unauthenticated."""
        return ApiClient(find_address(self.url, self.home, environment(self.ctx), as_operator=True))


@dataclass(frozen=True, kw_only=True)
class Output:
    """Chooses between text and JSON."""

    as_json: AsJson = False

    def rows(self, rows: Iterable[JsonObject], columns: Sequence[str]) -> None:
        """Print a listing."""
        show_rows(rows, columns, as_json=self.as_json)

    def resource(self, shown: JsonObject) -> None:
        """Print one resource."""
        show_object(shown, as_json=self.as_json)

    def lines(self, shown: object, lines: Iterable[str]) -> None:
        """Print a document as JSON, or its lines for people."""
        if self.as_json:
            show_json(shown)
        else:
            for line in lines:
                say(line)

    def result(self, shown: JsonObject, sentence: str) -> None:
        """Print a change as JSON, or remark it in a sentence."""
        if self.as_json:
            show_json(shown)
        else:
            remark(sentence)
