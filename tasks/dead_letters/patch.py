"""Applies a replay's patch to one dead letter. Pure.

A new model is set in body and column. A new contract removes a `response_format` that would override it.
"""

from dataclasses import replace

from schemas.jsons import JsonObject
from schemas.replay import Patch, Refused, ReplayedLetter
from tasks.requests.chat import MAX_MESSAGES


def patched(letter: ReplayedLetter, patch: Patch) -> ReplayedLetter | Refused:
    """Return the patched letter, or why the patch does not fit."""
    if not patch.changes_bodies:
        return letter
    body = dict(patch.body if patch.body is not None else letter.body or {})
    if patch.model is not None:
        body["model"] = patch.model
    if patch.contract is not None and patch.body is None:
        body.pop("response_format", None)  # the body's response_format would override the contract
    body |= patch.parameters
    why = _appended(body, patch.message)
    if why:
        return Refused(letter=letter, why=why)
    model = body.get("model") if patch.body is not None else patch.model
    return replace(letter, body=body, model=model, contract=patch.contract)


def _appended(body: JsonObject, message: JsonObject | None) -> str | None:
    """Return why the message cannot be appended."""
    if message is None:
        return None
    messages = body.get("messages")
    if not isinstance(messages, list):
        return "The request has no messages to append to."
    if len(messages) >= MAX_MESSAGES:
        return f"The request has {len(messages)} messages; at most {MAX_MESSAGES} are allowed."
    body["messages"] = [*messages, message]
    return None
