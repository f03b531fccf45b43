"""What `dead-letters replay` changes and how carefully it goes: options, and the patch that they say."""

from pathlib import Path
from typing import Annotated

import typer

from schemas.errors import InvalidRequest
from schemas.jsons import JsonObject, MalformedJson, parse
from schemas.lanes import Lane

NewModel = Annotated[str | None, typer.Option("--model", help="Ask this model or alias instead.")]
ToLane = Annotated[Lane | None, typer.Option("--lane", help="Back into this lane instead of its own.")]
Parameters = Annotated[
    list[str] | None, typer.Option("--set", help="A parameter of the request, as NAME=JSON; may be repeated.")
]
ContractFile = Annotated[
    Path | None,
    typer.Option("--contract", exists=True, dir_okay=False, help="A JSON Schema that the answers must meet instead."),
]
Appended = Annotated[str | None, typer.Option("--message", help="A message of the user, appended to each request.")]
DeadlineSeconds = Annotated[float | None, typer.Option("--deadline", help="Seconds that each has; default: a day.")]
MaxCost = Annotated[str | None, typer.Option("--max-cost", help="USD that each may cost, all its lives together.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Count and price them; move nothing.")]
Canary = Annotated[int, typer.Option("--canary", min=0, help="Replay so many first, and judge them before the rest.")]
Threshold = Annotated[float, typer.Option("--threshold", help="The share of the canaries that must complete.")]
PerSecond = Annotated[float | None, typer.Option("--per-second", help="Replay at most so many per second.")]
Key = Annotated[str | None, typer.Option("--key", help="An idempotency key: the same command again is one replay.")]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Begin it and return; `replays show` tells how far it is.")]


def patch_of(
    *,
    model: str | None,
    lane: Lane | None,
    parameters: list[str] | None,
    contract: Path | None,
    message: str | None,
    deadline_seconds: float | None,
    max_cost_usd: str | None,
) -> JsonObject:
    """The patch as the API reads it. Raises InvalidRequest for what is no JSON."""
    said = {
        "model": model,
        "lane": lane.value if lane else None,
        "parameters": dict(_parameter(text) for text in parameters) if parameters else None,
        "contract": None if contract is None else _contract(contract),
        "message": message,
        "deadline_seconds": deadline_seconds,
        "max_cost_usd": max_cost_usd,
    }
    return {name: value for name, value in said.items() if value is not None}


def _parameter(text: str) -> tuple[str, object]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise InvalidRequest(f"--set {text!r} must be NAME=JSON, for example temperature=0")
    try:
        return name, parse(value)
    except MalformedJson as error:
        raise InvalidRequest(f"--set {name}: {value!r} is not JSON; a text wants its quotes") from error


def _contract(path: Path) -> JsonObject:
    try:
        patch = parse(path.read_bytes())
    except MalformedJson as error:
        raise InvalidRequest(f"{path} is not JSON: {error}") from error
    if not isinstance(patch, dict):
        raise InvalidRequest(f"{path} must hold a JSON object")
    return patch
