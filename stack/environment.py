"""Selects the environment of each Procfile process.

Flower and the simulator get an allow-list, because provider keys may have any names. The others get all but `web`'s
HTTP keys.
"""

from collections.abc import Mapping

from config.environment import PYTHON_NEEDS

WEB = "web"
FLOWER = "flower"
SIMULATOR = "simulator"

WEB_KEYS = frozenset({"PENSTOCK_ADMIN_KEY", "PENSTOCK_METRICS_KEY"})

BASIC = PYTHON_NEEDS | {"HOME", "USER", "TZ", "TMPDIR", "VIRTUAL_ENV", "PYTHONUNBUFFERED"}
"""Variables of Flower and the simulator besides their settings."""

ALLOWED: Mapping[str, frozenset[str]] = {
    FLOWER: BASIC
    | {
        "PENSTOCK_CONFIG",
        "PENSTOCK_DATABASE_URL",
        "PENSTOCK_ENV",
        "PENSTOCK_FLOWER_PORT",
        "PENSTOCK_HOME",
        "PENSTOCK_REDIS_URL",
    },
    SIMULATOR: BASIC,
}
PREFIXES: Mapping[str, tuple[str, ...]] = {FLOWER: ("LC_", "FLOWER_"), SIMULATOR: ("LC_", "SIMULATOR_")}


def environment_of(process: str, env: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that this process may see."""
    if process in ALLOWED:
        allowed, prefixes = ALLOWED[process], PREFIXES[process]
        return {name: value for name, value in env.items() if name in allowed or name.startswith(prefixes)}
    hidden = frozenset() if process == WEB else WEB_KEYS
    return {name: value for name, value in env.items() if name not in hidden}
