"""Finds the address of the API and the key to use.

    address   --url, PENSTOCK_URL, the stack of --home, http://127.0.0.1:8080
    key       PENSTOCK_API_KEY or PENSTOCK_ADMIN_KEY, else the operator's key in the home folder

The key of a home folder is sent only to the stack of that folder.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from schemas.errors import InvalidSetting, Unauthenticated
from stack.status import Connection, read_connection

DEFAULT_URL = "http://127.0.0.1:8080"
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
SUBMITTER_KEYS = ("PENSTOCK_API_KEY", "PENSTOCK_ADMIN_KEY")
OPERATOR_KEYS = ("PENSTOCK_ADMIN_KEY", "PENSTOCK_API_KEY")


@dataclass(frozen=True, kw_only=True)
class Address:
    """A base URL without a trailing slash, and its key."""

    url: str
    key: str

    @property
    def is_loopback(self) -> bool:
        """Whether the API is on this machine and needs no proxy."""
        return urlsplit(self.url).hostname in LOOPBACK


def find_address(url: str | None, home: Path, env: Mapping[str, str], *, as_operator: bool = False) -> Address:
    """Find address and key. Raises InvalidSetting for a wrong URL, Unauthenticated without a key."""
    local = read_connection(home)
    chosen = _checked(url or env.get("PENSTOCK_URL") or (local.url if local else DEFAULT_URL))
    names = OPERATOR_KEYS if as_operator else SUBMITTER_KEYS
    key = next((env[name] for name in names if env.get(name)), None) or _home_key(local, chosen)
    if key is None:
        raise Unauthenticated(
            f"no API key for {chosen}: set PENSTOCK_API_KEY, or name the folder of a stack on this machine with --home"
        )
    return Address(url=chosen, key=key)


def _checked(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise InvalidSetting(f"the address {url!r} must begin with http:// or https:// and name a host", param="url")
    return url.rstrip("/").removesuffix("/v1")


def _home_key(local: Connection | None, url: str) -> str | None:
    if local is None or local.admin_key_file is None or local.url != url:
        return None
    try:
        return Path(local.admin_key_file).read_text(encoding="utf-8").strip() or None
    except OSError:
        return None
