"""A body as bytes. Pure. What is sent and what is counted are the same bytes."""

import json

import orjson

from schemas.jsons import JsonObject


def encoded(body: JsonObject) -> bytes:
    """UTF-8 JSON. What orjson refuses (lone surrogates, huge integers) is escaped in the standard library's way."""
    try:
        return orjson.dumps(body)
    except TypeError:
        return json.dumps(body, separators=(",", ":")).encode()
