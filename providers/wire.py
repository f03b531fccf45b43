"""Encodes JSON as bytes. Pure. The bytes that are sent are the bytes that are counted."""

from typing import Any

from schemas.jsons import dumps


def encoded(body: Any) -> bytes:  # noqa: ANN401 - any JSON value
    """Encode as UTF-8 JSON, keeping all digits. Lone surrogates are escaped."""
    return dumps(body)
