"""Checks that Redis evicts no keys, because evicted keys would lose money."""

from admission.wire import Wire


async def complaints(wire: Wire) -> list[str]:
    """Return what must change before this server may hold the ledger. Raises RedisUnavailable.

    It is read from INFO, which managed services allow.
    """
    memory = await wire.command("INFO", "memory")
    policy = str(memory.get("maxmemory_policy", "noeviction"))
    if policy != "noeviction":
        return [f"Redis evicts keys ({policy}); set maxmemory-policy noeviction, or budgets may be forgotten."]
    return []
