"""Who is calling: a bearer key becomes a tenant and its rights.

A key is looked up by its digest, so neither time nor error tells how much of it was right. What was found is believed
for `BELIEVED_SECONDS`, so that a revocation acts within that; what was not found is never remembered.
"""

import hashlib
import hmac
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from api.house import Keys
from schemas.errors import Forbidden, Unauthenticated
from schemas.ids import DEFAULT_TENANT, ID, TenantId

OPERATOR = "operator"
SUBMIT = "submit"
TENANT_HEADER = "x-penstock-tenant"
BELIEVED_SECONDS = 1.0
MOST_BELIEVED = 10_000
MOST_SECRET_CHARACTERS = 512


@dataclass(frozen=True, kw_only=True, slots=True)
class Caller:
    """Whose request this is. `named` says that an operator chose the tenant for this request."""

    tenant_id: TenantId
    is_operator: bool = False
    named: bool = False

    @property
    def reach(self) -> TenantId | None:
        """Whose things it may change: its tenant's, or everybody's for an operator who named none."""
        return None if self.is_operator and not self.named else self.tenant_id


class Authenticator:
    """Turns secrets into callers. The operator's first key comes from the settings and needs no database."""

    def __init__(self, keys: Keys, admin_secret: str | None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._keys = keys
        self._admin_digest = _digest(admin_secret) if admin_secret else None
        self._clock = clock
        self._believed: dict[bytes, tuple[float, Caller]] = {}

    async def caller(self, secret: str, wanted_tenant: str | None = None) -> Caller:
        """Who holds this secret. Raises Unauthenticated, Forbidden and PostgresUnavailable."""
        if not 0 < len(secret) <= MOST_SECRET_CHARACTERS:
            raise Unauthenticated
        caller = await self._holder(secret)
        if wanted_tenant is None or wanted_tenant == caller.tenant_id:
            return caller
        if not caller.is_operator or not ID.fullmatch(wanted_tenant):
            raise Forbidden("Only an operator may act for another tenant.", param=TENANT_HEADER)
        return Caller(tenant_id=TenantId(wanted_tenant), is_operator=True, named=True)

    def forget(self) -> None:
        """Believe nothing any more, because a key was revoked."""
        self._believed.clear()

    async def _holder(self, secret: str) -> Caller:
        digest = _digest(secret)
        if self._admin_digest is not None and hmac.compare_digest(digest, self._admin_digest):
            return Caller(tenant_id=DEFAULT_TENANT, is_operator=True)
        until, caller = self._believed.get(digest, (0.0, None))
        if caller is not None and self._clock() < until:
            return caller
        self._believed.pop(digest, None)
        return await self._look_up(secret, digest)

    async def _look_up(self, secret: str, digest: bytes) -> Caller:
        asked_at = self._clock()
        found = await self._keys.find(secret)
        if found is None or found.revoked_at is not None:
            raise Unauthenticated
        caller = Caller(tenant_id=found.tenant_id, is_operator=OPERATOR in found.scopes)
        if len(self._believed) >= MOST_BELIEVED:
            self._believed.clear()
        self._believed[digest] = (asked_at + BELIEVED_SECONDS, caller)
        return caller


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()


_bearer = HTTPBearer(auto_error=False, description="An API key")


async def _caller(
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> Caller:
    if credentials is None:
        raise Unauthenticated
    authenticator: Authenticator = request.app.state.authenticator
    return await authenticator.caller(credentials.credentials, request.headers.get(TENANT_HEADER))


async def _operator(caller: Annotated[Caller, Depends(_caller)]) -> Caller:
    if not caller.is_operator:
        raise Forbidden("This needs a key with the operator scope.")
    return caller


AnyCaller = Annotated[Caller, Depends(_caller)]
Operator = Annotated[Caller, Depends(_operator)]
