"""Speaks HTTP to a running Penstock. Statuses and library exceptions become `schemas.errors` here."""

import http.client
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlencode
from urllib.request import OpenerDirector, ProxyHandler, Request, build_opener

from cli.client.address import Address
from cli.client.errors import ApiFailed, ApiUnreachable
from schemas.errors import Forbidden, InvalidRequest, NotFound, PenstockError, Unauthenticated, Unavailable
from schemas.jsons import JsonObject, dumps

if TYPE_CHECKING:
    from openai import OpenAI

TIMEOUT_SECONDS = 60.0
PAGE_ROWS = 100

ERROR_OF_STATUS: dict[int, type[PenstockError]] = {
    400: InvalidRequest,
    401: Unauthenticated,
    403: Forbidden,
    404: NotFound,
    409: InvalidRequest,
    413: InvalidRequest,
    422: InvalidRequest,
    429: Unavailable,
    503: Unavailable,
}


class ApiClient:
    """A client of one Penstock, with one key."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._opener: OpenerDirector = build_opener(*([ProxyHandler({})] if address.is_loopback else []))

    def get(self, *path: str, **query: object) -> JsonObject:
        """Read a resource. `None` values of the query are omitted."""
        return self._exchange("GET", _path(path, query))

    def post(self, *path: str, body: JsonObject | None = None, headers: Mapping[str, str] | None = None) -> JsonObject:
        """Create or change a resource."""
        return self._exchange("POST", _path(path), body or {}, headers)

    def post_lines(self, *path: str, lines: bytes, **query: object) -> JsonObject:
        """Send JSON lines."""
        return self._exchange("POST", _path(path, query), lines)

    def lines(self, *path: str, **query: object) -> Iterator[bytes]:
        """Yield the lines of a stream. Raises ApiFailed if it ends within a line."""
        with self._answered("GET", _path(path, query)) as answer:
            for line in answer:
                if not line.endswith(b"\n"):
                    raise ApiFailed(f"the answer of {self.address.url} ended in the middle of a line")
                yield line

    def delete(self, *path: str) -> JsonObject:
        """Delete a resource."""
        return self._exchange("DELETE", _path(path))

    def rows(self, *path: str, at_most: int | None = None, **query: object) -> Iterator[JsonObject]:
        """Yield the rows of all pages, up to `at_most`."""
        after, seen = None, 0
        while True:
            limit = PAGE_ROWS if at_most is None else min(PAGE_ROWS, at_most - seen)
            page = self.get(*path, **query, limit=limit, after=after)
            rows = page.get("data", [])
            yield from rows
            seen += len(rows)
            after = page.get("last_id")
            if not rows or not page.get("has_more") or after is None or (at_most is not None and seen >= at_most):
                return

    def is_ready(self) -> bool:
        """Whether the server is ready; False if it is unreachable."""
        try:
            self._exchange("GET", "/readyz")
        except PenstockError:
            return False
        return True

    @contextmanager
    def sdk(self) -> Iterator["OpenAI"]:
        """Open the official client. Its exceptions are raised as `schemas.errors`."""
        import openai  # noqa: PLC0415 - loading it takes a second, which `penstock status` should not pay

        http_client = openai.DefaultHttpxClient(trust_env=not self.address.is_loopback)
        try:
            with openai.OpenAI(
                base_url=f"{self.address.url}/v1", api_key=self.address.key, http_client=http_client
            ) as client:
                yield client
        except openai.APIStatusError as error:
            raise _error_of(error.status_code, error.body) from error
        except openai.APIConnectionError as error:
            raise self._unreachable(str(error.__cause__ or error)) from error
        except openai.APIError as error:
            raise ApiFailed(f"{self.address.url} gave an answer that is none: {error.message}") from error

    def _exchange(
        self, method: str, path: str, body: JsonObject | bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> JsonObject:
        with self._answered(method, path, body, headers) as answer:
            text = answer.read()
        parsed = _loads(text) if text else {}
        if not isinstance(parsed, dict):
            raise ApiFailed(f"what answers at {self.address.url} is not a penstock")
        return parsed

    @contextmanager
    def _answered(
        self, method: str, path: str, body: JsonObject | bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Iterator[http.client.HTTPResponse]:
        raw = dumps(body) if isinstance(body, dict) else body
        kind = "application/x-ndjson" if isinstance(body, bytes) else "application/json"
        request = Request(  # noqa: S310 - the scheme was checked to be http or https
            self.address.url + path,
            method=method,
            data=raw,
            headers={"authorization": f"Bearer {self.address.key}", "content-type": kind} | dict(headers or {}),
        )
        try:
            with self._opener.open(request, timeout=TIMEOUT_SECONDS) as answer:
                yield answer
        except HTTPError as error:
            with error:
                raise _error_of(error.code, _loads(error.read())) from error
        except (URLError, TimeoutError, ConnectionError, http.client.HTTPException) as error:
            raise self._unreachable(str(getattr(error, "reason", error))) from error

    def _unreachable(self, why: str) -> ApiUnreachable:
        return ApiUnreachable(
            f"nobody answers at {self.address.url} ({why}); start it with `penstock up`, or name another with --url"
        )


def _path(parts: tuple[str, ...], query: Mapping[str, object] | None = None) -> str:
    chosen = {name: value for name, value in (query or {}).items() if value is not None}
    return "".join(f"/{quote(part, safe='')}" for part in parts) + (f"?{urlencode(chosen)}" if chosen else "")


def _loads(text: bytes) -> Any:  # noqa: ANN401 - unparsed
    try:
        return json.loads(text)
    except ValueError:
        return None


def _error_of(status: int, body: object) -> PenstockError:
    """Return the error of a response. `body` is OpenAI's error object, possibly wrapped."""
    error = body.get("error", body) if isinstance(body, dict) else {}
    message = error.get("message") if isinstance(error, dict) else None
    param = error.get("param") if isinstance(error, dict) else None
    kind = ERROR_OF_STATUS.get(status, ApiFailed)
    return kind(str(message) if message else f"the API answered with status {status}", param=param)
