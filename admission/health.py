"""Checks that Redis answers and evicts no keys, because evicted keys would lose money."""

from collections.abc import Mapping

from admission.wire import Wire


async def ping(wire: Wire) -> None:
    """Return once Redis answers. Raises RedisUnavailable."""
    await wire.command("PING")


async def complaints(wire: Wire) -> list[str]:
    """Return complaints about the server from INFO, which managed services allow. Raises RedisUnavailable."""
    return complaints_about(await wire.command("INFO", "memory"))


def complaints_about(memory: Mapping[str, object]) -> list[str]:
    """Return what must change before this server may hold the ledger. Pure."""
    policy = str(memory.get("maxmemory_policy", "noeviction"))
    if policy != "noeviction":
        return [f"Redis evicts keys ({policy}); set maxmemory-policy noeviction, or budgets may be forgotten."]
    return []
