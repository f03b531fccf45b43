"""A TCP way between a process and a server that can be cut, held and slowed, without privileges and without help.

Runs on one thread of its own; the conductor of a campaign calls it from another.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Thread

READ_BYTES = 65_536
SLOW_SECONDS = 0.05
"""Added to each read of a slowed link: a far away region instead of the next rack."""


class Link:
    """One way to one server. `port` is where to connect instead."""

    def __init__(self, loop: asyncio.AbstractEventLoop, server_port: int) -> None:
        self._loop, self._server_port = loop, server_port
        self._open = asyncio.Event()
        self._open.set()
        self._cut = self._slow = False
        self._pumps: set[asyncio.Task[None]] = set()
        self.port = asyncio.run_coroutine_threadsafe(self._listen(), loop).result()

    def cut(self) -> None:
        """Break what is connected, and refuse whoever comes."""
        self._loop.call_soon_threadsafe(self._do_cut)

    def hold(self) -> None:
        """Let nothing pass and break nothing, as a lost route does."""
        self._loop.call_soon_threadsafe(self._open.clear)

    def slow(self) -> None:
        """Let everything pass late."""
        self._slow = True

    def patched(self) -> None:
        """Be a good network again."""
        self._cut = self._slow = False
        self._loop.call_soon_threadsafe(self._open.set)

    def close(self) -> None:
        """Listen no more."""
        self._loop.call_soon_threadsafe(self._server.close)
        self.cut()

    def _do_cut(self) -> None:
        self._cut = True
        for pump in tuple(self._pumps):
            pump.cancel()

    async def _listen(self) -> int:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._cut:
            writer.transport.abort()
            return
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._server_port)
        except OSError:
            writer.transport.abort()
            return
        for source, sink in ((reader, far_writer), (far_reader, writer)):
            pump = self._loop.create_task(self._pump(source, sink))
            self._pumps.add(pump)
            pump.add_done_callback(self._pumps.discard)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.CancelledError):
            while data := await source.read(READ_BYTES):
                await self._open.wait()
                if self._slow:
                    await asyncio.sleep(SLOW_SECONDS)
                sink.write(data)
                await sink.drain()
        sink.transport.abort()


@contextmanager
def link_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """The loop, on a thread of its own, that links live on."""
    loop = asyncio.new_event_loop()
    thread = Thread(target=loop.run_forever, name="links", daemon=True)
    thread.start()
    try:
        yield loop
    finally:
        asyncio.run_coroutine_threadsafe(_end_all(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _end_all() -> None:
    others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
