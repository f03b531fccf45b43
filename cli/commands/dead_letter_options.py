"""Options that select dead letters."""

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Annotated

import typer

from cli.options import BatchOf
from schemas.decision import DeadReason
from schemas.errors import InvalidRequest
from schemas.jsons import JsonObject


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


def _moment(option: str, value: str | None) -> str | None:
    if value is None:
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError as error:
        raise InvalidRequest(f"{option} must be a moment such as 2026-11-24T10:00, not {value!r}") from error
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).isoformat()
