import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psycopg
import redis

from stack.children import birth_mark, wait_until
from stack.home import free_port
from stack.status import Connection, ProcessStatus, StackStatus, down, read_connection, read_status

DEADLINE_SECONDS = 20.0
PROCFILE = """\
release: echo released by $PENSTOCK_PROCESS
web: python -m http.server --bind 127.0.0.1 $PORT
standard: sleep 1000
"""
STUBBORN = """stubborn: sh -c "trap '' TERM; echo deaf; while :; do sleep 0.1; done"
"""
WITHOUT_SERVERS = {"PENSTOCK_REDIS_URL": "redis://unused", "PENSTOCK_DATABASE_URL": "postgresql://unused"}
SCRIPT = """
import os, sys
from pathlib import Path
from schemas.errors import PenstockError
from stack.up import up
try:
    up(Path(sys.argv[1]), port=int(sys.argv[2]), workers=2, env=os.environ, procfile_path=Path(sys.argv[3]))
except PenstockError as refusal:
    sys.exit(refusal.message)
"""


@dataclass(frozen=True, kw_only=True)
class Running:
    home: Path
    process: subprocess.Popen[str]

    def status(self) -> StackStatus:
        status = read_status(self.home)
        assert status is not None
        return status

    def named(self, name: str) -> ProcessStatus:
        return next(process for process in self.status().processes if process.name == name)

    def connection(self) -> Connection:
        connection = read_connection(self.home)
        assert connection is not None
        return connection

    def kill(self, name: str) -> ProcessStatus:
        """Kill one process and return how it is once it was started again."""
        before = self.named(name)
        assert before.pid is not None
        os.kill(before.pid, signal.SIGKILL)
        assert wait_until(
            lambda: self.named(name).restarts > before.restarts and self.named(name).pid is not None,
            seconds=DEADLINE_SECONDS,
        )
        return self.named(name)


def start_up(home: Path, procfile: str, env: Mapping[str, str] | None = None) -> "subprocess.Popen[str]":
    home.parent.mkdir(exist_ok=True)
    (home.parent / "Procfile").write_text(procfile)
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(home), str(free_port()), str(home.parent / "Procfile")],
        env=os.environ | {"OPENAI_API_KEY": "unused"} | dict(env or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def is_running(home: Path) -> bool:
    status = read_status(home)
    return status is not None and status.phase == "running"


@contextmanager
def running(home: Path, procfile: str = PROCFILE, env: Mapping[str, str] | None = None) -> Iterator[Running]:
    process = start_up(home, procfile, env)
    try:
        assert wait_until(lambda: is_running(home) or process.poll() is not None, seconds=DEADLINE_SECONDS)
        assert process.poll() is None, process.communicate()[0]
        yield Running(home=home, process=process)
    finally:
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        process.communicate(timeout=DEADLINE_SECONDS)


def mark(connection: Connection) -> int:
    """Count up in both stores; both must agree."""
    with psycopg.connect(connection.database_url) as postgres:
        postgres.execute("CREATE TABLE IF NOT EXISTS marks (id serial)")
        postgres.execute("INSERT INTO marks DEFAULT VALUES")
        row = postgres.execute("SELECT count(*) FROM marks").fetchone()
    with redis.Redis.from_url(connection.redis_url) as client:
        assert row == (client.incr("marks"),)
    return int(row[0])


def can_mark(connection: Connection, expected: int) -> bool:
    try:
        with redis.Redis.from_url(connection.redis_url) as client:
            client.ping()
        psycopg.connect(connection.database_url).close()
    except (redis.ConnectionError, psycopg.OperationalError):
        return False
    assert mark(connection) == expected
    return True


def test_what_is_killed_comes_back_unnoticed_and_a_second_up_is_refused(tmp_path: Path) -> None:
    with running(tmp_path / "home") as stack:
        connection = stack.connection()
        web = stack.named("web")
        assert mark(connection) == 1

        assert stack.kill("standard-2").restarts == 1
        stack.kill("valkey")
        stack.kill("postgres")

        assert wait_until(lambda: can_mark(connection, 2), seconds=DEADLINE_SECONDS)
        assert stack.connection() == connection
        assert stack.named("web") == web
        second = start_up(stack.home, PROCFILE)
        said = second.communicate(timeout=DEADLINE_SECONDS)[0]
        assert second.returncode == 1
        assert "another penstock is running" in said
        assert "Traceback" not in said
        assert stack.process.poll() is None
        assert "released by release" in (tmp_path / "home" / "logs" / "release.log").read_text()


def test_down_stops_everything_and_the_next_up_has_the_data(tmp_path: Path) -> None:
    with running(tmp_path / "home") as stack:
        pids = [process.pid or 0 for process in stack.status().processes]
        mark(stack.connection())

        assert down(stack.home, wait_seconds=DEADLINE_SECONDS)
        assert stack.process.wait(DEADLINE_SECONDS) == 0
        assert [birth_mark(pid) for pid in pids] == [""] * len(pids)
        assert read_status(stack.home) is None

    with running(tmp_path / "home") as stack:
        assert mark(stack.connection()) == 2


def test_killing_the_supervisor_leaves_no_orphan_and_up_works_at_once(tmp_path: Path) -> None:
    with running(tmp_path / "home", PROCFILE + STUBBORN) as stack:
        marks = {process.pid or 0: birth_mark(process.pid or 0) for process in stack.status().processes}
        mark(stack.connection())
        stack.process.kill()
        stack.process.wait()

        with running(tmp_path / "home") as again:
            assert all(birth_mark(pid) != born for pid, born in marks.items())
            assert mark(again.connection()) == 2
    assert "" not in marks.values()


def test_a_failing_release_starts_nothing_and_shows_its_last_words(tmp_path: Path) -> None:
    process = start_up(
        tmp_path / "home", "release: sh -c 'echo no such table; exit 3'\nweb: touch x\n", WITHOUT_SERVERS
    )
    said = process.communicate(timeout=DEADLINE_SECONDS)[0]

    assert process.returncode == 1
    assert "ended with 3" in said
    assert "no such table" in said
    assert not (tmp_path / "home" / "logs" / "web.log").exists()


def test_a_second_signal_kills_what_does_not_want_to_stop(tmp_path: Path) -> None:
    with running(tmp_path / "home", PROCFILE + STUBBORN, WITHOUT_SERVERS) as stack:
        log = stack.home / "logs" / "stubborn.log"
        assert wait_until(lambda: log.exists() and "deaf" in log.read_text(), seconds=DEADLINE_SECONDS)
        stubborn = stack.named("stubborn").pid or 0

        stack.process.send_signal(signal.SIGINT)
        assert wait_until(lambda: stack.status().phase == "stopping", seconds=DEADLINE_SECONDS)
        assert birth_mark(stubborn) != ""
        stack.process.send_signal(signal.SIGINT)

        assert stack.process.wait(DEADLINE_SECONDS) == 0
        assert birth_mark(stubborn) == ""
