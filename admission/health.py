"""Checks that Redis answers and evicts no keys; a Redis that evicts keys may not hold money."""

from collections.abc import Mapping

from admission.wire import Wire


async def ping(wire: Wire) -> None:
    """Return when Redis answers. Raises RedisUnavailable."""
    await wire.command("PING")


async def complaints(wire: Wire) -> list[str]:
    """Sentences for the operator about the server, by INFO, which managed services allow. Raises RedisUnavailable."""
    return complaints_about(await wire.command("INFO", "memory"))


def complaints_about(memory: Mapping[str, object]) -> list[str]:
    """What must be changed before this server may hold the ledger. Pure."""
    policy = str(memory.get("maxmemory_policy", "noeviction"))
    if policy != "noeviction":
        return [f"Redis evicts keys ({policy}); set maxmemory-policy noeviction, or budgets may be forgotten."]
    return []
