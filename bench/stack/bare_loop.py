"""`python -m bench.stack.bare_loop BASE_URL CALLS IN_FLIGHT`: loops the official client.

The yardstick for a stack: the client's own transport and defaults, with IN_FLIGHT calls at once. Prints one JSON line:
calls, wall seconds, CPU seconds of this process.
"""

import asyncio
import json
import sys
import time

from openai import AsyncOpenAI

from bench.requests import request_body


async def loop(base_url: str, calls: int, in_flight: int) -> dict[str, float]:
    """Make the calls and measure."""
    numbers = iter(range(calls))
    async with AsyncOpenAI(base_url=base_url, api_key="bench") as client:

        async def caller() -> None:
            for number in numbers:
                await client.chat.completions.create(**request_body(number))

        began, cpu_began = time.perf_counter(), time.process_time()
        await asyncio.gather(*(caller() for _ in range(in_flight)))
        return {
            "calls": calls,
            "seconds": time.perf_counter() - began,
            "cpu_seconds": time.process_time() - cpu_began,
        }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(loop(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))))  # noqa: T201 - its answer
