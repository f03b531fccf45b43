"""Loads the Lua scripts with their layouts and shared code in front."""

from dataclasses import dataclass
from functools import cached_property
from hashlib import sha1
from pathlib import Path

from admission import tenants
from admission.state import lua_layout

FOLDER = Path(__file__).with_name("lua")


@dataclass(frozen=True)
class Script:
    """One script; Redis names it by `sha`."""

    name: str
    source: str

    @cached_property
    def sha(self) -> str:
        """Hex SHA-1 of the source, for EVALSHA."""
        return sha1(self.source.encode(), usedforsecurity=False).hexdigest()


def _load(name: str, *, of_tenants: bool = False) -> Script:
    parts = [lua_layout(), _read("bucket")]
    if of_tenants:
        parts += ["local function share_of_tenants()", tenants.lua_layout(), _read("tenant"), "end"]
    return Script(name, "\n".join([*parts, _read(name)]))


def _read(name: str) -> str:
    return (FOLDER / f"{name}.lua").read_text(encoding="utf-8")


ADMIT = _load("admit", of_tenants=True)
SETTLE = _load("settle", of_tenants=True)
PENALIZE = _load("penalize")
CONFIGURE = _load("configure")
EXPIRE = _load("expire")
LIMIT = _load("limit")
REBUILD = _load("rebuild")
HOLDINGS = _load("holdings")
REPAIR = _load("repair")
DOUBT = _load("doubt")
