"""Writes error responses without calling the application."""

import uuid
from http import HTTPStatus

from api.errors import Busy, SlowRequest, TooManyHeaders, answer
from schemas.errors import InvalidRequest, PenstockError

FULL = Busy()
SLOW_HEAD = SlowRequest("The head of the request did not come in time.")
SLOW_BODY = SlowRequest("The body of the request did not come in time.")
LARGE_HEAD = TooManyHeaders("The head of the request is too large, or its chunks have more framing than content.")
TINY_PIECES = InvalidRequest("The request comes in pieces that are too small.")
PIPELINED = InvalidRequest("Too many requests follow each other without waiting for an answer.")
MALFORMED = InvalidRequest("This is no HTTP request.")


def refusal(error: PenstockError) -> bytes:
    """Return the raw response, after which the connection closes."""
    response = answer(error)
    response.headers["x-request-id"] = f"req_{uuid.uuid4().hex}"
    response.headers["connection"] = "close"
    status = HTTPStatus(response.status_code)
    head = b"".join(name + b": " + value + b"\r\n" for name, value in response.raw_headers)
    return f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() + head + b"\r\n" + bytes(response.body)
