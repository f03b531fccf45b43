"""JSON as bytes. Pure. What is sent and what is counted are the same bytes."""

import json
from typing import Any

import orjson


def encoded(body: Any) -> bytes:  # noqa: ANN401 - any JSON value
    """UTF-8 JSON. What orjson refuses (lone surrogates, huge integers) is escaped in the standard library's way."""
    try:
        return orjson.dumps(body)
    except TypeError:
        return json.dumps(body, separators=(",", ":")).encode()
