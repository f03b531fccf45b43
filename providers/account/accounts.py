"""Opens one HTTP client per `[providers.NAME]`.

Values that the SDK would read from the environment are set here, so that no key or organisation reaches the wrong
provider.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from urllib.parse import urlsplit

import httpx2
from openai import AsyncOpenAI

from config.catalogue import OPENAI_BASE_URL, PROVIDER_DEFAULT, Catalogue, ProviderTable
from config.settings import Settings
from providers.account.bounded import BoundedClient
from providers.account.http_client import Account
from providers.account.large_replies import LargeReplies
from schemas.errors import InvalidSetting

SPARE_CONNECTIONS = 64
"""Connections beyond one per call; those of abandoned calls are still closing."""

KEEP_ALIVE_SECONDS = 20
"""Shorter than servers' idle time-outs, so that requests seldom meet a closing connection."""


def base_url_of(name: str, table: ProviderTable, env: Mapping[str, str]) -> str:
    """Return the table's address, else a default. Raises InvalidSetting.

    Only the default provider reads OPENAI_BASE_URL.
    """
    url = table.base_url or (env.get("OPENAI_BASE_URL") if name == PROVIDER_DEFAULT else None) or OPENAI_BASE_URL
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise InvalidSetting(f"[providers.{name}] base_url must be an http or https address, not {url!r}.")
    return url


@asynccontextmanager
async def open_accounts(
    catalogue: Catalogue, settings: Settings, env: Mapping[str, str]
) -> AsyncIterator[Mapping[str, Account]]:
    """Open one client per provider that a model names. Raises InvalidSetting."""
    needed = {model.provider for model in catalogue.models.values()}
    tables = {name: table for name, table in catalogue.providers.items() if name in needed}
    keys = {name: _key(name, table, env) for name, table in tables.items()}
    async with AsyncExitStack() as stack:
        accounts = {}
        large_replies = LargeReplies()
        for name, table in tables.items():
            base_url = base_url_of(name, table, env)
            client = await stack.enter_async_context(_client(base_url, keys[name], settings, env))
            accounts[name] = Account(
                name=name,
                base_url=base_url,
                openai=client,
                key=keys[name],
                lookup=table.lookup,
                large_replies=large_replies,
            )
        yield accounts


def _key(name: str, table: ProviderTable, env: Mapping[str, str]) -> str:
    key = env.get(table.api_key_env, "").strip()
    if not key:
        raise InvalidSetting(
            f"The provider {name!r} needs a key: set the environment variable {table.api_key_env}, "
            f"or name another one as api_key_env in [providers.{name}]."
        )
    return key


def _client(base_url: str, key: str, settings: Settings, env: Mapping[str, str]) -> AsyncOpenAI:
    connections = settings.call_places + SPARE_CONNECTIONS
    limits = httpx2.Limits(
        max_connections=connections, max_keepalive_connections=connections, keepalive_expiry=KEEP_ALIVE_SECONDS
    )
    http_client = BoundedClient(max_reply_bytes=settings.max_reply_bytes, limits=limits, follow_redirects=False)
    client = AsyncOpenAI(api_key=key, base_url=base_url, max_retries=0, http_client=http_client)
    at_openai = base_url == OPENAI_BASE_URL
    client.organization = env.get("OPENAI_ORG_ID") if at_openai else None
    client.project = env.get("OPENAI_PROJECT_ID") if at_openai else None
    return client
