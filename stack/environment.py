"""What each process of the Procfile finds in its environment: no key that it does not use.

Flower and the simulator get a list of what they may have, because names of providers' keys are anybody's choice. The
others call providers and read the caller's settings, so they get all but the keys of the door, which `web` alone holds.
"""

from collections.abc import Mapping

WEB = "web"
FLOWER = "flower"
SIMULATOR = "simulator"

KEYS_OF_THE_DOOR = frozenset({"PENSTOCK_ADMIN_KEY", "PENSTOCK_METRICS_KEY"})

EVERYWHERE = frozenset(
    {"PATH", "HOME", "USER", "LANG", "TZ", "TMPDIR", "VIRTUAL_ENV", "PYTHONUNBUFFERED", "PYTHONPATH"}
)
ALLOWED: Mapping[str, frozenset[str]] = {
    FLOWER: EVERYWHERE
    | {
        "PENSTOCK_CONFIG",
        "PENSTOCK_DATABASE_URL",
        "PENSTOCK_ENV",
        "PENSTOCK_FLOWER_PORT",
        "PENSTOCK_HOME",
        "PENSTOCK_REDIS_URL",
    },
    SIMULATOR: EVERYWHERE,
}
PREFIXES: Mapping[str, tuple[str, ...]] = {FLOWER: ("LC_", "FLOWER_"), SIMULATOR: ("LC_", "SIMULATOR_")}


def environment_of(process: str, env: Mapping[str, str]) -> dict[str, str]:
    """The part of the stack's environment that the process of this name may see."""
    if process in ALLOWED:
        allowed, prefixes = ALLOWED[process], PREFIXES[process]
        return {name: value for name, value in env.items() if name in allowed or name.startswith(prefixes)}
    hidden = frozenset() if process == WEB else KEYS_OF_THE_DOOR
    return {name: value for name, value in env.items() if name not in hidden}
