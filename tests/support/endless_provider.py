"""A provider whose answers never end: it sends the same piece for as long as somebody reads."""

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class _Answer(socketserver.StreamRequestHandler):
    server: "EndlessProvider"

    def handle(self) -> None:
        while self.rfile.readline() not in {b"\r\n", b""}:
            pass
        self.server.count(1, 0)
        try:
            self.wfile.write(b"HTTP/1.1 200 OK\r\n" + self.server.headers + b"\r\n\r\n")
            while True:
                self.wfile.write(self.server.piece)
                self.server.count(0, len(self.server.piece))
        except ConnectionError:
            pass  # whoever read it has had enough
        finally:
            self.server.count(-1, 0)


class EndlessProvider(socketserver.ThreadingTCPServer):
    """`open` answers are being read. A test says what they are made of, and starts its count with `says`."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self._lock = threading.Lock()
        self.says(b"content-type: application/json", b" ")

    def says(self, headers: bytes, piece: bytes) -> None:
        """What the next answers are made of."""
        self.headers, self.piece = headers, piece
        self.open = self.sent_bytes = self.answers = 0

    def count(self, answers: int, size: int) -> None:
        with self._lock:
            self.open += answers
            self.answers += max(answers, 0)
            self.sent_bytes += size

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


@contextmanager
def endless_provider() -> Iterator[EndlessProvider]:
    """Serve in a thread until the end of the block."""
    with EndlessProvider() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
