import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from workers.pool.lifespan import Lifespan


async def test_a_lifespan_has_a_value_only_while_it_is_open() -> None:
    @asynccontextmanager
    async def services() -> AsyncIterator[str]:
        yield "services"

    lifespan, opened, ending = Lifespan(services), asyncio.Event(), asyncio.Event()
    with pytest.raises(RuntimeError, match="not open"):
        _ = lifespan.value

    staying = asyncio.create_task(lifespan.stay_open(opened.set, ending))
    await opened.wait()
    assert lifespan.value == "services"
    ending.set()
    await staying
    with pytest.raises(RuntimeError, match="not open"):
        _ = lifespan.value
