"""Options that select dead letters, and those of their replay."""

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from cli.options import BatchOf
from schemas.decision import DeadReason
from schemas.errors import InvalidRequest
from schemas.jsons import JsonObject, MalformedJson, parse
from schemas.lanes import Lane
from schemas.replay import DEFAULT_THRESHOLD


@dataclass(frozen=True, kw_only=True)
class GroupFilter:
    """The filter without a group. Fields have the API's names."""

    reason: Annotated[DeadReason | None, typer.Option("--reason", help="Only those that died of this.")] = None
    batch_id: BatchOf = None
    model: Annotated[str | None, typer.Option("--model", help="Only those that asked this model.")] = None
    prompt: Annotated[
        str | None, typer.Option("--prompt", help="Only those whose requests bear this prompt's name.")
    ] = None
    tenant_id: Annotated[str | None, typer.Option("--tenant", help="Only those of this tenant (operators).")] = None
    since: Annotated[
        str | None, typer.Option("--since", help="Dead since then: 2026-11-24T10:00, UTC unless it says.")
    ] = None
    until: Annotated[str | None, typer.Option("--until", help="Dead before then.")] = None

    def as_json(self) -> JsonObject:
        """Return the API's filter. Raises InvalidRequest for a malformed time."""
        moments = {"since": _moment("--since", self.since), "until": _moment("--until", self.until)}
        return {name: value for name, value in (asdict(self) | moments).items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class DeadLetterFilter(GroupFilter):
    """The filter with a group."""

    group: Annotated[
        str | None, typer.Option("--group", help="Only those of one cause: an id of `dead-letters groups`.")
    ] = None


@dataclass(frozen=True, kw_only=True)
class ReplayFilter(DeadLetterFilter):
    """The filter of a replay, where `--model` names the new model."""

    model: Annotated[str | None, typer.Option("--of-model", help="Only those that asked this model.")] = None


@dataclass(frozen=True, kw_only=True)
class PatchOptions:
    """Changes to each dead letter. Fields have the API's names, but for the model."""

    new_model: Annotated[str | None, typer.Option("--model", help="Ask this model or alias instead.")] = None
    lane: Annotated[Lane | None, typer.Option("--lane", help="Back into this lane instead of its own.")] = None
    parameters: Annotated[
        list[str] | None, typer.Option("--set", help="A parameter of the request, as NAME=JSON; may be repeated.")
    ] = None
    contract: Annotated[
        Path | None,
        typer.Option(
            "--contract", exists=True, dir_okay=False, help="A JSON Schema that the answers must meet instead."
        ),
    ] = None
    message: Annotated[
        str | None, typer.Option("--message", help="A message of the user, appended to each request.")
    ] = None
    deadline_seconds: Annotated[
        float | None, typer.Option("--deadline", help="Seconds that each has; default: a day.")
    ] = None
    max_cost_usd: Annotated[
        str | None, typer.Option("--max-cost", help="USD that each may cost, all its lives together.")
    ] = None

    def as_json(self) -> JsonObject:
        """Return the API's patch. Raises InvalidRequest for malformed JSON."""
        parsed = {
            "parameters": dict(map(_parameter, self.parameters)) if self.parameters else None,
            "contract": None if self.contract is None else _contract(self.contract),
        }
        patch = asdict(self) | parsed
        patch["model"] = patch.pop("new_model")
        return {name: value for name, value in patch.items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """Pace and canaries of a replay. Fields have the API's names."""

    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count and price them; move nothing.")] = False
    canary: Annotated[
        int, typer.Option("--canary", min=0, help="Replay so many first, and judge them before the rest.")
    ] = 0
    threshold: Annotated[float, typer.Option("--threshold", help="The share of the canaries that must complete.")] = (
        DEFAULT_THRESHOLD
    )
    per_second: Annotated[float | None, typer.Option("--per-second", help="Replay at most so many per second.")] = None


def _moment(option: str, value: str | None) -> str | None:
    if value is None:
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError as error:
        raise InvalidRequest(f"{option} must be a moment such as 2026-11-24T10:00, not {value!r}") from error
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).isoformat()


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
