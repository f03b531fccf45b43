"""Authenticates callers by bearer key.

Keys are looked up by digest, so that timing reveals nothing. Wrong keys are cached, counted by address and looked up a
few at a time; keys that were valid before are exempt.
"""

import hashlib
import hmac
import time
from asyncio import Semaphore
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Protocol

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from api.failures import Failures
from schemas.errors import Forbidden, NotFound, TooManyFailures, Unauthenticated
from schemas.ids import DEFAULT_TENANT, ID, TenantId
from schemas.lanes import Lane
from schemas.tenants import EVERY_LANE, TenantShare
from storage.tenancy.keys import StoredKey

OPERATOR = "operator"
SUBMIT = "submit"
TENANT_HEADER = "x-penstock-tenant"
BELIEVED_SECONDS = 1.0
MOST_BELIEVED = 10_000
MOST_SECRET_CHARACTERS = 512
DISBELIEVED_SECONDS = 5.0
"""How long a wrong key is rejected without a look-up: a client's retry interval."""
UNKNOWN_LOOK_UPS = 2
"""Connections for look-ups of unknown keys, of the pool's eight."""


class Keys(Protocol):
    """Looks up API keys."""

    async def find(self, secret: str) -> StoredKey | None:
        """Return the key with this secret, unless it was revoked. Raises PostgresUnavailable."""

    async def tenants(self) -> frozenset[str]:
        """Return all tenants. Raises PostgresUnavailable."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Caller:
    """The caller of a request.

    `named`: an operator chose the tenant. `key_lanes`: the lanes of the key's scopes, or None.
    """

    tenant_id: TenantId
    is_operator: bool = False
    named: bool = False
    key_lanes: frozenset[Lane] | None = None

    @property
    def tenant_scope(self) -> TenantId | None:
        """Tenant whose resources the caller may change; None means all."""
        return None if self.is_operator and not self.named else self.tenant_id

    def lanes_of(self, share: TenantShare) -> frozenset[Lane]:
        """Return the lanes that both the key and the tenant may use."""
        if self.is_operator:
            return EVERY_LANE
        return share.lanes if self.key_lanes is None else share.lanes & self.key_lanes


class Authenticator:
    """Turns secrets into callers. The operator's first key needs no database."""

    def __init__(
        self,
        keys: Keys,
        admin_secret: str | None,
        *,
        scrape_secret: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._keys = keys
        self._admin_digest = _digest(admin_secret) if admin_secret else None
        self._scrape_digest = _digest(scrape_secret) if scrape_secret else None
        self._clock = clock
        self._seen_tenants: frozenset[str] = frozenset({DEFAULT_TENANT})
        self._believed: dict[bytes, tuple[float, Caller]] = {}
        self._wrong: dict[bytes, float] = {}
        self._failures = Failures()
        self._unknown = Semaphore(UNKNOWN_LOOK_UPS)

    async def caller(self, secret: str, requested_tenant: str | None = None, *, address: str = "") -> Caller:
        """Return the holder of this secret.

        Raises Unauthenticated, TooManyFailures, Forbidden, NotFound and PostgresUnavailable.
        """
        if not 0 < len(secret) <= MOST_SECRET_CHARACTERS:
            raise Unauthenticated
        caller = await self._holder(secret, address)
        if requested_tenant is None or requested_tenant == caller.tenant_id:
            return caller
        if not caller.is_operator or not ID.fullmatch(requested_tenant):
            raise Forbidden("Only an operator may act for another tenant.", param=TENANT_HEADER)
        await self._check_tenant(requested_tenant)
        return Caller(tenant_id=TenantId(requested_tenant), is_operator=True, named=True)

    async def check_scraper(self, secret: str, *, address: str = "") -> None:
        """Accept the scrape key and operators' keys.

        Raises Unauthenticated, TooManyFailures, Forbidden and PostgresUnavailable.
        """
        if self._scrape_digest is not None and hmac.compare_digest(_digest(secret), self._scrape_digest):
            return
        if not (await self.caller(secret, address=address)).is_operator:
            raise Forbidden("Metrics need the scrape key, or a key with the operator scope.")

    def forget(self) -> None:
        """Expire all cached keys after a revocation."""
        self._believed = {digest: (0.0, caller) for digest, (_, caller) in self._believed.items()}

    async def _check_tenant(self, name: str) -> None:
        """Raise NotFound for an unknown tenant. Tenants are never removed."""
        if name not in self._seen_tenants:
            self._seen_tenants = await self._keys.tenants()
        if name not in self._seen_tenants:
            raise NotFound(f"There is no tenant '{name}'.", param=TENANT_HEADER)

    async def _holder(self, secret: str, address: str) -> Caller:
        digest = _digest(secret)
        if self._admin_digest is not None and hmac.compare_digest(digest, self._admin_digest):
            return Caller(tenant_id=DEFAULT_TENANT, is_operator=True)
        until, caller = self._believed.get(digest, (0.0, None))
        if caller is None:
            return await self._uncached_holder(secret, digest, address)
        if self._clock() < until:
            return caller
        return await self._look_up(secret, digest)

    async def _uncached_holder(self, secret: str, digest: bytes, address: str) -> Caller:
        now = self._clock()
        if self._failures.too_many(address, now):
            raise TooManyFailures
        try:
            return await self._look_up_uncached(secret, digest, now)
        except Unauthenticated:
            self._failures.add(address, now)
            raise

    async def _look_up_uncached(self, secret: str, digest: bytes, now: float) -> Caller:
        if now < self._wrong.get(digest, 0.0):
            raise Unauthenticated
        async with self._unknown:
            return await self._look_up(secret, digest)

    async def _look_up(self, secret: str, digest: bytes) -> Caller:
        started_at = self._clock()
        key = await self._keys.find(secret)
        if key is None or key.revoked_at is not None:
            self._believed.pop(digest, None)
            _make_room(self._wrong)
            self._wrong[digest] = started_at + DISBELIEVED_SECONDS
            raise Unauthenticated
        caller = Caller(tenant_id=key.tenant_id, is_operator=OPERATOR in key.scopes, key_lanes=_key_lanes(key.scopes))
        _make_room(self._believed)
        self._believed[digest] = (started_at + BELIEVED_SECONDS, caller)
        return caller


def _make_room(remembered: dict[bytes, Any]) -> None:
    if len(remembered) >= MOST_BELIEVED:
        del remembered[next(iter(remembered))]


def _key_lanes(scopes: frozenset[str]) -> frozenset[Lane] | None:
    return frozenset(lane for lane in Lane if lane_scope(lane) in scopes) or None


def lane_scope(lane: Lane) -> str:
    """Return the scope that permits a lane. A key without any may use all lanes of its tenant."""
    return f"lane:{lane}"


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()


def _address(request: Request) -> str:
    return request.client.host if request.client else ""


Credentials = Annotated[
    HTTPAuthorizationCredentials | None, Depends(HTTPBearer(auto_error=False, description="An API key"))
]


async def _caller(request: Request, credentials: Credentials) -> Caller:
    if credentials is None:
        raise Unauthenticated
    authenticator: Authenticator = request.app.state.authenticator
    requested_tenant = request.headers.get(TENANT_HEADER)
    caller = await authenticator.caller(credentials.credentials, requested_tenant, address=_address(request))
    if not caller.is_operator:
        share: TenantShare = request.app.state.services.share(caller.tenant_id)
        request.app.state.open_requests.open(share, request.scope)
        request.state.memory.count_for(caller.tenant_id)
        request.state.tenant_id = caller.tenant_id
    return caller


async def _scraper(request: Request, credentials: Credentials) -> None:
    if credentials is None:
        raise Unauthenticated
    authenticator: Authenticator = request.app.state.authenticator
    await authenticator.check_scraper(credentials.credentials, address=_address(request))


async def _require_operator(caller: Annotated[Caller, Depends(_caller)]) -> None:
    if not caller.is_operator:
        raise Forbidden("This needs a key with the operator scope.")


AnyCaller = Annotated[Caller, Depends(_caller)]
Scraper = Annotated[None, Depends(_scraper)]

FOR_OPERATORS = [Depends(_require_operator)]
"""The dependencies of a router whose routes need the operator scope."""
