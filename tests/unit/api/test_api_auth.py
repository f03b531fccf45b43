"""For how long a key is believed that was looked up before."""

from datetime import UTC, datetime

import pytest

from api.auth import BELIEVED_SECONDS, Authenticator
from schemas.errors import PostgresUnavailable, Unauthenticated
from schemas.ids import KeyId, TenantId
from storage.tenancy.keys import StoredKey

ISSUED_AT = datetime(2026, 1, 1, tzinfo=UTC)
KEY = StoredKey(
    id=KeyId("key_1"),
    tenant_id=TenantId("acme"),
    prefix="pk_1",
    scopes=frozenset({"submit"}),
    created_at=ISSUED_AT,
    revoked_at=None,
)


class OneKey:
    """A store that holds this key, until it holds none."""

    def __init__(self) -> None:
        self.key: StoredKey | None = KEY
        self.trouble: Exception | None = None

    async def find(self, _: str) -> StoredKey | None:
        if self.trouble is not None:
            raise self.trouble
        return self.key


async def test_another_process_believes_a_revoked_key_for_a_second_at_most() -> None:
    keys, now = OneKey(), [100.0]
    authenticator = Authenticator(keys, "pk_admin", clock=lambda: now[0])
    assert (await authenticator.caller("pk_1")).tenant_id == "acme"

    keys.key = None
    assert (await authenticator.caller("pk_1")).tenant_id == "acme"
    now[0] += BELIEVED_SECONDS
    with pytest.raises(Unauthenticated):
        await authenticator.caller("pk_1")


async def test_a_process_that_revokes_a_key_believes_it_no_more() -> None:
    keys = OneKey()
    authenticator = Authenticator(keys, None)
    await authenticator.caller("pk_1")

    keys.key = None
    authenticator.forget()
    with pytest.raises(Unauthenticated):
        await authenticator.caller("pk_1")


async def test_a_database_that_is_away_is_no_wrong_key() -> None:
    keys = OneKey()
    keys.trouble = PostgresUnavailable()

    with pytest.raises(PostgresUnavailable):
        await Authenticator(keys, "pk_admin").caller("pk_some")


async def test_the_operator_of_the_settings_needs_no_database() -> None:
    keys = OneKey()
    keys.trouble = PostgresUnavailable()

    assert (await Authenticator(keys, "pk_admin").caller("pk_admin")).is_operator
