"""Sends signed events to the operator's address, at least once, with growing pauses.

Signed by https://github.com/standard-webhooks/standard-webhooks. Address and secret are never logged.
"""

import asyncio
import base64
import binascii
import hashlib
import hmac
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from http.client import HTTPException
from typing import Any, Protocol
from urllib.error import HTTPError
from urllib.request import HTTPRedirectHandler, Request, build_opener

import structlog

from config.catalogue import WebhookTable
from schemas.errors import InvalidSetting
from schemas.jsons import dumps
from schemas.money import usd_text
from storage.ledger.budget_alerts import DELIVERED_WITHIN_SECONDS, StoredThreshold
from tasks.maintenance.items import Isolation

log = structlog.get_logger()

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 5.0, 3_600.0
TIMEOUT_SECONDS = 10.0
SECRET_PREFIX = "whsec_"  # noqa: S105 - how such a secret begins
LEAST_SECRET_BYTES = 24
"""Standard Webhooks asks for 24 to 64 random bytes."""

THRESHOLD_EVENT = "budget.threshold_reached"

Post = Callable[[str, bytes, Mapping[str, str]], Awaitable[int]]
"""Sends a body; returns the status. Raises OSError and HTTPException."""


class Deliverable(Protocol):
    """Stores thresholds to send."""

    async def due(self) -> Sequence[StoredThreshold]:
        """List what is due."""

    async def sent(self, number: int, *, heard: bool, again_seconds: float = 0.0) -> None:
        """Record a send, and when the next is due."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Receiver:
    """Holds the address of events and the secret that signs them."""

    url: str
    secret: bytes = field(repr=False)


@dataclass
class Webhooks:
    """Delivers due events; does nothing without a receiver."""

    rows: Deliverable
    receiver: Receiver | None
    now: Callable[[], datetime]
    post: Post = field(default_factory=lambda: post_once)
    clock: Callable[[], float] = time.monotonic
    _isolation: Isolation = field(init=False)

    def __post_init__(self) -> None:
        self._isolation = Isolation("send_webhooks", end=self._give_up, clock=self.clock)

    async def deliver(self) -> int:
        """Send due events; returns how many were accepted."""
        if self.receiver is None:
            return 0
        return await self._isolation.each(
            await self.rows.due(), lambda threshold: str(threshold.id), partial(self._send, self.receiver)
        )

    async def _give_up(self, number: str, _error: Exception) -> None:
        """Delay the next send beyond `DELIVERED_WITHIN_SECONDS`, when it is no longer due."""
        await self.rows.sent(int(number), heard=False, again_seconds=DELIVERED_WITHIN_SECONDS)

    async def _send(self, receiver: Receiver, threshold: StoredThreshold) -> bool:
        body, number = dumps(event_of(threshold)), f"evt_{threshold.id}"
        try:
            status = await self.post(receiver.url, body, signed(receiver.secret, number, body, self.now()))
            trouble = None if 200 <= status < 300 else f"status {status}"  # noqa: PLR2004 - success
        except (OSError, HTTPException) as error:
            trouble = type(error).__name__
        if trouble is not None:
            log.warning("webhook_unheard", event_id=number, sends=threshold.sends + 1, trouble=trouble)
        pause = min(FIRST_PAUSE_SECONDS * 2.0**threshold.sends, LONGEST_PAUSE_SECONDS)
        await self.rows.sent(threshold.id, heard=trouble is None, again_seconds=pause)
        return trouble is None


def receiver_from(table: WebhookTable | None, env: Mapping[str, str]) -> Receiver | None:
    """Read the receiver. Raises InvalidSetting for a missing or weak secret."""
    if table is None:
        return None
    encoded = env.get(table.secret_env, "")
    try:
        secret = base64.b64decode(encoded.removeprefix(SECRET_PREFIX), validate=True)
    except binascii.Error:
        secret = b""
    if not encoded.startswith(SECRET_PREFIX) or len(secret) < LEAST_SECRET_BYTES:
        raise InvalidSetting(
            f"[webhooks] secret_env: {table.secret_env} must hold {SECRET_PREFIX} and at least {LEAST_SECRET_BYTES} "
            "random bytes in base64"
        )
    return Receiver(url=table.url, secret=secret)


def signed(secret: bytes, event_id: str, body: bytes, now: datetime) -> dict[str, str]:
    """Sign one send. Sends of an event share the id, and have their own timestamps."""
    moment = str(int(now.timestamp()))
    digest = hmac.new(secret, b".".join([event_id.encode(), moment.encode(), body]), hashlib.sha256).digest()
    return {
        "content-type": "application/json",
        "webhook-id": event_id,
        "webhook-timestamp": moment,
        "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
    }


def event_of(threshold: StoredThreshold) -> dict[str, Any]:
    """Build a threshold's JSON."""
    passed = threshold.passed
    return {
        "id": f"evt_{threshold.id}",
        "object": "event",
        "type": THRESHOLD_EVENT,
        "created_at": int(threshold.passed_at.timestamp()),
        "data": {
            "scope": passed.scope,
            "window": passed.window,
            "percent": passed.percent,
            "limit_usd": usd_text(passed.limit_nano_usd),
            "settled_usd": usd_text(passed.settled_nano_usd),
            "full_at": passed.full_at.isoformat() if passed.full_at else None,
        },
    }


class _NoRedirect(HTTPRedirectHandler):
    """Refuses redirects, so that signed events reach no other address."""

    def redirect_request(self, *_: object, **__: object) -> None:
        """Follow no redirect."""


async def post_once(url: str, body: bytes, headers: Mapping[str, str]) -> int:
    """Send one POST in a separate thread, without redirects; returns the status."""
    return await asyncio.to_thread(_posted, url, body, headers)


def _posted(url: str, body: bytes, headers: Mapping[str, str]) -> int:
    request = Request(url, data=body, headers=dict(headers), method="POST")  # noqa: S310 - checked to be http or https
    try:
        with build_opener(_NoRedirect).open(request, timeout=TIMEOUT_SECONDS) as answer:
            return int(answer.status)
    except HTTPError as error:
        with error:
            return error.code
