"""Looks up a completion whose answer was lost, by the attempt id in its metadata.

An empty result proves nothing: the call may still run.
"""

from contextlib import suppress

import httpx2
import structlog
from openai import APIError

from providers.account.http_client import PATH, Account
from providers.chat.reply import is_completion, reply_of
from providers.chat.request_body import MAX_METADATA_PAIRS
from schemas.errors import AccountUnavailable
from schemas.ids import AttemptId
from schemas.jsons import JsonObject, MalformedJson, object_in, parse_reply
from schemas.reply import Reply

log = structlog.get_logger()

ATTEMPT_METADATA = "attempt_id"
LOOK_UP_SECONDS = 10.0
"""A look-up may save a call, so it may not delay one longer."""


def findable(body: JsonObject, attempt_id: AttemptId) -> JsonObject:
    """Return the body with the attempt id in its metadata, if a pair is free."""
    pairs = object_in(body, "metadata")
    if body.get("store") is not True or len(pairs) >= MAX_METADATA_PAIRS:
        return body
    return {**body, "metadata": {**pairs, ATTEMPT_METADATA: attempt_id}}


async def look_up(account: Account, model: str, attempt_id: AttemptId) -> Reply | None:
    """Return the stored completion, if any. Raises AccountUnavailable."""
    if not account.lookup:
        return None
    try:
        response: httpx2.Response = await account.openai.get(
            PATH,
            cast_to=httpx2.Response,
            options={"params": {f"metadata[{ATTEMPT_METADATA}]": attempt_id, "limit": 2}, "timeout": LOOK_UP_SECONDS},
        )
    except (APIError, httpx2.HTTPError) as error:
        log.warning("look_up_failed", account=account.name, attempt_id=attempt_id, reason=type(error).__name__)
        raise AccountUnavailable from error
    return _reply(response.content, model)


def _reply(raw: bytes, model: str) -> Reply | None:
    with suppress(MalformedJson):
        match parse_reply(raw):
            case {"data": [completion]} if is_completion(completion):
                return reply_of(completion, asked_model=model)
    return None
