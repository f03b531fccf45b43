"""The Lua scripts as loaded from their files, each with the bucket's layout and the shared opening in front."""

from dataclasses import dataclass
from functools import cached_property
from hashlib import sha1
from pathlib import Path

from admission.state import lua_layout

FOLDER = Path(__file__).with_name("lua")


@dataclass(frozen=True)
class Script:
    """One script; `sha` is how Redis names it."""

    name: str
    source: str

    @cached_property
    def sha(self) -> str:
        """Hex SHA-1 of the source, as EVALSHA wants it."""
        return sha1(self.source.encode(), usedforsecurity=False).hexdigest()


def _load(name: str) -> Script:
    opening = (FOLDER / "bucket.lua").read_text(encoding="utf-8")
    body = (FOLDER / f"{name}.lua").read_text(encoding="utf-8")
    return Script(name, f"{lua_layout()}\n{opening}\n{body}")


ADMIT = _load("admit")
SETTLE = _load("settle")
PENALIZE = _load("penalize")
CONFIGURE = _load("configure")
EXPIRE = _load("expire")
LIMIT = _load("limit")
REBUILD = _load("rebuild")
HOLDINGS = _load("holdings")
REPAIR = _load("repair")
DOUBT = _load("doubt")
