"""Runs the embedded Postgres as a child, for this machine only.

The wheel has pgvector and plpgsql and nothing of contrib, so migrations must not need more.
"""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import psycopg

from stack.children import ServerFailed, last_lines, spawn
from stack.embedded import EmbeddedServer
from stack.home import Home, write_private
from stack.privileges import Privileges, choose_privileges, record_choice, was_made
from stack.roles import APPLICATION, BOOTSTRAP, DATABASE, Cluster, demote_application, make_application

MAX_CONNECTIONS = 200  # pools of web, workers and upkeep, and some for psql
MAX_WAL_SIZE = "2GB"  # checkpoints by time, not by every gigabyte: each one writes whole pages anew
SHARED_BUFFERS = "128MB"
LOCALE = "C.UTF-8" if sys.platform == "linux" else "C"  # the build has no ICU; macOS knows no C.UTF-8


class Postgres(EmbeddedServer):
    """One Postgres server. `env` is added to its minimal environment."""

    name = "postgres"
    stop_signal = signal.SIGINT  # "fast" shutdown: sessions are ended, data is flushed
    ready_seconds = 120.0  # crash recovery comes before the first connection and may be long

    def __init__(
        self, home: Home, *, privileges: Privileges | None = None, env: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(home, env=env)
        self._privileges: Privileges | None = privileges
        self._bootstrapped = home.postgres / "bootstrapped"  # exists once the cluster has a bootstrap role of its own

    @property
    def url(self) -> str:
        """The application's address with its password."""
        return self._cluster.url(APPLICATION, DATABASE)

    @property
    def bootstrap_url(self) -> str:
        """The superuser's address, for extensions and tests. No other process gets it."""
        return self._cluster.url(BOOTSTRAP, DATABASE)

    @property
    def privileges(self) -> Privileges:
        """The server's user and folder, chosen at the first start."""
        if self._privileges is None:
            self._privileges = choose_privileges(self._home)
        return self._privileges

    def start(self) -> None:
        """Create the cluster if needed, start, and wait for an answer. Raises ServerFailed."""
        if not was_made(self._home):
            self._make_cluster()
        elif not (self.privileges.data / "PG_VERSION").exists():
            raise ServerFailed(
                f"the Postgres data in {self.privileges.data} is gone; restore it, "
                f"or delete {self._home.postgres} to begin with nothing"
            )
        super().start()
        if not self._bootstrapped.exists():  # a cluster of an earlier version
            demote_application(self._cluster)
            self._note_bootstrap()
        make_application(self._cluster)

    def launch(self) -> subprocess.Popen[bytes]:
        """Start or restart the process and return at once."""
        self._end_leftover()
        # The last server was ended above and the home is locked, so the pid in this file is not one of ours. Where
        # pids start again at 1 (containers) it may belong to another process, for which Postgres would wait for ever.
        (self.privileges.data / "postmaster.pid").unlink(missing_ok=True)
        command = self.privileges.command("postgres", "-D", str(self.privileges.data), *self._settings())
        return self._spawn(command, _environment(), self.privileges.run_as)

    def _settings(self) -> list[str]:
        settings = {
            "port": str(self.port),
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "max_connections": str(MAX_CONNECTIONS),
            "shared_buffers": SHARED_BUFFERS,
            "max_wal_size": MAX_WAL_SIZE,
            "jit": "off",  # our statements are short; compiling one costs more than running it
            "log_min_messages": "warning",
            "log_error_verbosity": "terse",  # error details quote rows: prompts, replies and names
        }
        return [argument for name, setting in settings.items() for argument in ("-c", f"{name}={setting}")]

    def _make_cluster(self) -> None:
        """Run initdb. `way.json` is written last, so a half-made cluster is made again."""
        privileges = self.privileges
        shutil.rmtree(privileges.data, ignore_errors=True)
        privileges.data.mkdir(mode=0o700)
        privileges.give(privileges.data)
        password_file = privileges.place / ".password"
        write_private(password_file, self._cluster.bootstrap_password + "\n")
        privileges.give(password_file)
        try:
            self._initdb(privileges, password_file)
        finally:
            password_file.unlink(missing_ok=True)
        self._note_bootstrap()
        record_choice(self._home, privileges)

    def _initdb(self, privileges: Privileges, password_file: Path) -> None:
        # A file, not /dev/stdin: a pipe that root created cannot be reopened by the user who runs this.
        command = privileges.command(
            "initdb",
            *("-D", str(privileges.data), "-U", BOOTSTRAP, "-E", "UTF8", f"--locale={LOCALE}"),
            *("--auth=scram-sha-256", f"--pwfile={password_file}"),
        )
        log_path = self._home.log_path("initdb")
        initdb = spawn(command, env=_environment(), log_path=log_path, run_as=privileges.run_as)
        if initdb.wait() != 0:
            raise ServerFailed(f"initdb failed; the end of {log_path}:\n{last_lines(log_path)}")

    def _is_ours(self) -> bool | None:
        role = BOOTSTRAP if self._bootstrapped.exists() else APPLICATION
        try:
            psycopg.connect(self._cluster.url(role, "postgres"), connect_timeout=3).close()
        except psycopg.OperationalError:
            return None
        return True

    @property
    def _cluster(self) -> Cluster:
        return Cluster(
            port=self.port,
            application_password=self._home.secret("postgres-password"),
            bootstrap_password=self._home.secret("postgres-bootstrap-password"),
        )

    def _note_bootstrap(self) -> None:
        write_private(self._bootstrapped, BOOTSTRAP)


def _environment() -> dict[str, str]:
    """Keep only PATH: this machine's PGDATA or locale would leak into the cluster."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": LOCALE, "TZ": "UTC"}
