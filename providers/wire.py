"""JSON as bytes. Pure. What is sent and what is counted are the same bytes."""

from typing import Any

from schemas.jsons import dumps


def encoded(body: Any) -> bytes:  # noqa: ANN401 - any JSON value
    """UTF-8 JSON, with every digit that came in. Lone surrogates are escaped."""
    return dumps(body)
