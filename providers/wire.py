"""Encodes JSON as bytes; the bytes sent are the bytes counted. Pure."""

from typing import Any

from schemas.jsons import dumps


def encoded(body: Any) -> bytes:  # noqa: ANN401 - any JSON value
    """Encode as UTF-8 JSON, keeping digits and escaping lone surrogates."""
    return dumps(body)
