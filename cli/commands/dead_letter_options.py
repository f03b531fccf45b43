"""Which dead letters a command means: the same options for listing, grouping, replaying, exporting and discarding."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from schemas.decision import DeadReason
from schemas.errors import InvalidRequest
from schemas.jsons import JsonObject

Reason = Annotated[DeadReason | None, typer.Option("--reason", help="Only those that died of this.")]
Group = Annotated[str | None, typer.Option("--group", help="Only those of one cause: an id of `dead-letters groups`.")]
Model = Annotated[str | None, typer.Option("--model", help="Only those that asked this model.")]
Prompt = Annotated[str | None, typer.Option("--prompt", help="Only those whose requests bear this prompt's name.")]
Tenant = Annotated[str | None, typer.Option("--tenant", help="Only those of this tenant (operators).")]
Since = Annotated[str | None, typer.Option("--since", help="Dead since then: 2026-11-24T10:00, UTC unless it says.")]
Until = Annotated[str | None, typer.Option("--until", help="Dead before then.")]


def chosen(
    *,
    reason: DeadReason | None,
    group: str | None,
    batch: str | None,
    model: str | None,
    prompt: str | None,
    tenant: str | None,
    since: str | None,
    until: str | None,
) -> JsonObject:
    """The filter that the options say, as the API reads it."""
    said = {
        "reason": reason.value if reason else None,
        "group": group,
        "batch_id": batch,
        "model": model,
        "prompt": prompt,
        "tenant_id": tenant,
        "since": _moment("--since", since),
        "until": _moment("--until", until),
    }
    return {name: value for name, value in said.items() if value is not None}


def _moment(option: str, value: str | None) -> str | None:
    if value is None:
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError as error:
        raise InvalidRequest(f"{option} must be a moment such as 2026-11-24T10:00, not {value!r}") from error
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).isoformat()
