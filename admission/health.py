"""Checks that Redis answers and evicts no keys; a Redis that evicts keys may not hold money."""

from dataclasses import dataclass

from admission.wire import Wire


@dataclass(frozen=True, kw_only=True, slots=True)
class RedisHealth:
    """`run_id` changes when the server restarts or is replaced; `complaints` are sentences for the operator."""

    run_id: str
    complaints: tuple[str, ...]


async def ping(wire: Wire) -> None:
    """Return when Redis answers. Raises RedisUnavailable."""
    await wire.command("PING")


async def inspect(wire: Wire) -> RedisHealth:
    """Read the server's state by INFO, which managed services allow. Raises RedisUnavailable."""
    server = _parsed(await wire.command("INFO", "server"))
    memory = _parsed(await wire.command("INFO", "memory"))
    return RedisHealth(run_id=server.get("run_id", ""), complaints=tuple(complaints_about(memory)))


def complaints_about(memory: dict[str, str]) -> list[str]:
    """What must be changed before this server may hold the ledger. Pure."""
    policy = memory.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        return [f"Redis evicts keys ({policy}); set maxmemory-policy noeviction, or budgets may be forgotten."]
    return []


def _parsed(reply: dict[str, object]) -> dict[str, str]:
    return {key: str(value) for key, value in reply.items()}
