"""Runs one child process that checks large replies."""

import asyncio
import os
import sys
from contextlib import suppress

import structlog

from config.environment import PYTHON_NEEDS
from providers.contract.checks.child import LENGTH, request_of
from schemas.reply import Reply

log = structlog.get_logger()

START_SECONDS = 20.0
"""Longest start, on a busy machine."""


class ChildDiedError(Exception):
    """The child ended before it answered."""


class Child:
    """One child process, started by its first request; answers one at a time."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int | None:
        """Process id of the running child, if any."""
        return None if self._process is None else self._process.pid

    async def ask(self, request: bytes) -> bytes:
        """Return the answer, or end the child. Raises TimeoutError and ChildDiedError."""
        try:
            process = self._process or await self._started()
            return await asyncio.wait_for(self._exchange(process, request), self._seconds)
        except BaseException as error:
            await self.end()
            if isinstance(error, OSError | asyncio.IncompleteReadError) and not isinstance(error, TimeoutError):
                raise ChildDiedError from error
            raise

    async def end(self) -> None:
        """Kill the child, if any."""
        process, self._process = self._process, None
        if process is not None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            if process.stdin is not None:
                process.stdin.close()

    async def _started(self) -> asyncio.subprocess.Process:
        """Awaits a first answer, so that no check includes the start. Raises ChildDiedError."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "providers.contract.checks.child",
            str(self._seconds),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,  # a traceback could show what a model wrote
            env={name: os.environ[name] for name in PYTHON_NEEDS if name in os.environ},
        )
        self._process = process
        try:
            await asyncio.wait_for(self._exchange(process, _HELLO), START_SECONDS)
        except TimeoutError:
            raise ChildDiedError from None
        log.info("check_process_started", pid=process.pid)
        return process

    async def _exchange(self, process: asyncio.subprocess.Process, request: bytes) -> bytes:
        assert process.stdin is not None  # noqa: S101 - both are pipes, see above
        assert process.stdout is not None  # noqa: S101
        process.stdin.write(LENGTH.pack(len(request)))
        process.stdin.write(request)
        await process.stdin.drain()
        (length,) = LENGTH.unpack(await process.stdout.readexactly(LENGTH.size))
        return await process.stdout.readexactly(length)


_HELLO = request_of(
    Reply(
        body={"choices": [{"message": {"content": "{}"}}]},
        text="{}",
        finish_reason=None,
        refusal=None,
        usage=None,
        model="",
    ),
    {},
)
"""Its answer proves that the child has started."""
