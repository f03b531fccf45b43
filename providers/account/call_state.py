"""Tracks one running call, and turns its end into a reply or a trouble.

Messages contain no prompt, are cut, and have keys redacted.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

import structlog
from openai import APIStatusError

from providers.account.errors import (
    code_of,
    error_in,
    error_object,
    kind_of_error,
    kind_of_failure,
    message_of,
    name_of_failure,
)
from providers.account.headers import limits_of, retry_after_ms
from providers.account.rate_limit_errors import figures_of, limit_of
from providers.account.timeouts import Patience
from providers.chat.reply import is_completion, reply_of, usage_of
from providers.chat.streaming import Accumulator
from schemas.admission import LimitHeaders
from schemas.jsons import JsonObject
from schemas.money import Usage
from schemas.plan import Plan
from schemas.reply import Reply, Trouble, TroubleKind
from schemas.storable import MAX_LATENCY_MS, storable_name, storable_text

log = structlog.get_logger()

NOTHING_IN_IT = "The provider answered {status} with what is no chat completion."

_UNDECIDED = frozenset({TroubleKind.SERVER, TroubleKind.UNKNOWN})
"""Stream errors that do not prove a refusal, so the output so far is paid for."""


_PRODUCED = frozenset({TroubleKind.CUT, TroubleKind.UNREADABLE})
"""Troubles after which a stream's output is paid for and counted here."""


class Exchange:
    """The state of one call to one account."""

    def __init__(self, plan: Plan, key: str, patience: Patience) -> None:
        self.plan = plan
        self.patience = patience
        self.stream: Accumulator | None = None
        self.done = False
        self._key = key
        self._status: int | None = None
        self._request_id: str | None = None
        self._limits = LimitHeaders()
        self._first_byte_ms: int | None = None

    def answered(self, status: int, headers: Mapping[str, str]) -> None:
        """Record the answer's status and headers."""
        self._first_byte_ms = self.patience.elapsed_ms()
        self._status = status
        self._request_id = storable_name(headers.get("x-request-id"))
        self._limits = limits_of(headers, datetime.now(UTC))

    def replied(self, body: object) -> Reply | Trouble:
        """Turn a whole answer into a reply or a trouble."""
        if is_completion(body):
            return self._reply(body)  # type: ignore[arg-type]  # is_completion looked
        if isinstance(body, dict) and (error := error_object(body.get("error"))):
            return self._reported(error, kind_of_error(error, None))
        return self._trouble(TroubleKind.UNKNOWN, NOTHING_IN_IT.format(status=self._status))

    def refused(self, error: APIStatusError, headers: Mapping[str, str]) -> Trouble:
        """Turn an error status into a trouble."""
        self.answered(error.status_code, headers)
        body_error = error_in(error.response.text if error.response.is_stream_consumed else "")
        message, now = str(body_error.get("message", "")), datetime.now(UTC)
        trouble = self._reported(
            body_error, kind_of_error(body_error, error.status_code), retry_after_ms(headers, message, now)
        )
        if trouble.kind is not TroubleKind.THROTTLE:
            return trouble
        return replace(trouble, limit=limit_of(message, body_error.get("type")), figures=figures_of(message, now))

    def streamed(self) -> Reply | Trouble:
        """Turn a stream's end into a reply; a trouble without `finish_reason` or `[DONE]`."""
        if self.is_whole and self.stream is not None:
            return self._reply(self.stream.completion())
        return self.broken("The stream ended before it was finished.")

    def broken_by(self, event: JsonObject) -> Trouble:
        """Turn a stream's error event into a trouble.

        Output so far is paid for unless the error's code says otherwise.
        """
        error = error_object(event)
        kind = kind_of_error(error, None)
        return self._reported(error, TroubleKind.CUT if self._began and kind in _UNDECIDED else kind)

    def broken(self, message: str) -> Trouble:
        """Return the trouble of an incomplete answer."""
        return self._trouble(TroubleKind.CUT if self._began else TroubleKind.AMBIGUOUS, message)

    def unreadable(self, message: str) -> Trouble:
        """Return the trouble of an answer beyond the limits."""
        return self._trouble(TroubleKind.UNREADABLE, message)

    def failed(self, error: Exception) -> Trouble:
        """Turn a failed connection into a trouble; the exception tells whether anything was sent."""
        name = name_of_failure(error)
        if self._status is None and kind_of_failure(error) is TroubleKind.NOT_SENT:
            return self._trouble(TroubleKind.NOT_SENT, f"The provider could not be reached ({name}).")
        return self.broken(f"The connection was lost before the answer was whole ({name}).")

    @property
    def _began(self) -> bool:
        return self.stream is not None and self.stream.chunks > 0

    @property
    def is_whole(self) -> bool:
        """Whether the stream is complete, so that a later failure does not matter."""
        return self.done and self.stream is not None and self.stream.finished

    @property
    def _latency_ms(self) -> int:
        return min(self.patience.elapsed_ms(), MAX_LATENCY_MS)

    def _reply(self, body: JsonObject) -> Reply:
        reply = replace(
            reply_of(body, asked_model=self.plan.target.model),
            request_id=self._request_id,
            limits=self._limits,
            latency_ms=self._latency_ms,
            first_byte_ms=self._first_byte_ms,
        )
        if reply.usage is None and body.get("usage"):
            log.warning("usage_unusable", target=str(self.plan.target), request_id=reply.request_id)
        if reply.body is not body:
            log.warning("reply_characters_replaced", target=str(self.plan.target), request_id=reply.request_id)
        return reply

    def _reported(self, error: JsonObject, kind: TroubleKind, wait_ms: int | None = None) -> Trouble:
        message = message_of(error, self._status, self._key)
        return self._trouble(kind, message, code=code_of(error), wait_ms=wait_ms)

    def _trouble(
        self, kind: TroubleKind, message: str, *, code: str | None = None, wait_ms: int | None = None
    ) -> Trouble:
        return Trouble(
            kind=kind,
            message=storable_text(message),
            status=self._status,
            code=storable_name(code),
            request_id=self._request_id,
            retry_after_ms=wait_ms,
            usage=self._counted(self.stream) if kind in _PRODUCED and self._began and self.stream else None,
            partial_text=None if self.stream is None or self.stream.text is None else storable_text(self.stream.text),
            limits=self._limits,
            latency_ms=self._latency_ms,
        )

    def _counted(self, stream: Accumulator) -> Usage:
        """Falls back to the quoted prompt and one token per byte of output."""
        quote = self.plan.quote
        output_tokens = min(stream.produced_bytes, quote.output_tokens)
        return usage_of(stream.usage) or Usage(input_tokens=quote.input_tokens, output_tokens=output_tokens)
