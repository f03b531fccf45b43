"""Edits a request body before it is sent. Pure.

Other fields pass unchanged, so new fields of the API work.
"""

from providers.contract.strict_mode import response_format
from schemas.contract import OutputContract
from schemas.ids import JobId
from schemas.jsons import JsonObject, object_in

JOB_METADATA = "job_id"
MAX_METADATA_PAIRS = 16
"""OpenAI's limit. A job that uses all pairs cannot be looked up."""


def final_body(
    body: JsonObject,
    *,
    model: str,
    default_max_output_tokens: int,
    contract: OutputContract | None,
    lookup_as: JobId | None,
) -> JsonObject:
    """Return the body of one call; `lookup_as` is the job's id for look-ups."""
    edited = {**body, "model": model}
    if edited.get("max_completion_tokens") is None and edited.get("max_tokens") is None:
        edited["max_completion_tokens"] = default_max_output_tokens
    if contract is not None and edited.get("response_format") is None and (json_format := response_format(contract)):
        edited["response_format"] = json_format
    if lookup_as is not None:
        return _to_be_found(edited, lookup_as)
    if edited.get("store") is not True:
        edited.pop("metadata", None)  # OpenAI refuses metadata without `store`
    return edited


def without_streaming(body: JsonObject) -> JsonObject:
    """Return the request for one whole answer."""
    return {name: value for name, value in body.items() if name not in {"stream", "stream_options"}}


def streaming(body: JsonObject) -> JsonObject:
    """Return the request for a stream that includes its usage."""
    options = {**object_in(body, "stream_options"), "include_usage": True}
    return {**body, "stream": True, "stream_options": options}


def asks_for_usage(body: JsonObject) -> bool:
    """Whether the caller wants the usage chunk."""
    return object_in(body, "stream_options").get("include_usage") is True


def _to_be_found(body: JsonObject, job_id: JobId) -> JsonObject:
    metadata = dict(object_in(body, "metadata"))
    if len(metadata) < MAX_METADATA_PAIRS or JOB_METADATA in metadata:
        metadata[JOB_METADATA] = job_id
    return {**body, "store": True, "metadata": metadata}
