"""An event loop whose time jumps to the next timer instead of passing: seconds of waiting cost nothing, exactly."""

import asyncio
import selectors
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

Result = TypeVar("Result")


class _Jumping(selectors.SelectSelector):
    """Never blocks: what the loop would have waited for has passed."""

    passed_seconds = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout is None:
            raise RuntimeError("everybody waits, and nothing will ever wake them")
        if not ready and timeout is not None:
            self.passed_seconds += timeout
        return ready


class _VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.passed_seconds


def in_virtual_time(work: Coroutine[Any, Any, Result]) -> Result:
    """Run to the end; fails when a task was left behind or ended in an error that nobody saw."""
    complaints: list[Mapping[str, Any]] = []
    loop = _VirtualLoop()
    loop.set_exception_handler(lambda _, complaint: complaints.append(complaint))
    try:
        result = loop.run_until_complete(work)
        left = [task for task in asyncio.all_tasks(loop) if not task.done()]
        assert not left, left
    finally:
        loop.close()
    assert not complaints, complaints
    return result
