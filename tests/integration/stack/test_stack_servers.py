import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from schemas.errors import InvalidSetting
from stack.children import ServerFailed
from stack.home import Home, free_port
from stack.postgres import Postgres
from stack.privileges import Way, choose_privileges, record_choice
from stack.servers import EmbeddedServers
from stack.valkey import Valkey

IS_ROOT = os.geteuid() == 0


def leave_a_mark(servers: EmbeddedServers) -> None:
    with psycopg.connect(servers.postgres.url) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS marks (id serial)")
        connection.execute("INSERT INTO marks DEFAULT VALUES")
    with redis.Redis.from_url(servers.valkey.url) as client:
        client.incr("marks")


def count_marks(servers: EmbeddedServers) -> tuple[int, int]:
    with psycopg.connect(servers.postgres.url) as connection:
        row = connection.execute("SELECT count(*) FROM marks").fetchone()
    with redis.Redis.from_url(servers.valkey.url) as client:
        return (row or (0,))[0], int(str(client.get("marks") or b"0", "ascii"))


def test_data_and_addresses_are_kept_over_a_stop(tmp_path: Path) -> None:
    with EmbeddedServers.started(Home(tmp_path)) as servers:
        first = (servers.valkey.url, servers.postgres.url)
        leave_a_mark(servers)

    with EmbeddedServers.started(Home(tmp_path)) as servers:
        assert (servers.valkey.url, servers.postgres.url) == first
        assert count_marks(servers) == (1, 1)


def test_killed_servers_start_again_with_their_data_at_the_same_address(tmp_path: Path) -> None:
    with EmbeddedServers.started(Home(tmp_path)) as servers:
        first = (servers.valkey.url, servers.postgres.url)
        for count in (1, 2, 3):
            leave_a_mark(servers)
            for server in (servers.valkey, servers.postgres):
                assert server.process is not None
                server.process.kill()
                server.process.wait()
                server.start()
            assert count_marks(servers) == (count, count)
        assert (servers.valkey.url, servers.postgres.url) == first


def test_no_password_is_on_a_command_line_and_nobody_gets_in_without_it(tmp_path: Path) -> None:
    home = Home(tmp_path)
    with EmbeddedServers.started(home) as servers:
        assert servers.valkey.process is not None
        assert servers.postgres.process is not None
        arguments = str(servers.valkey.process.args) + str(servers.postgres.process.args)

        assert home.secret("valkey-password") not in arguments
        assert home.secret("postgres-password") not in arguments
        with (
            redis.Redis(port=servers.valkey.port, retry=Retry(NoBackoff(), 0)) as client,
            pytest.raises(redis.AuthenticationError),
        ):
            client.ping()
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(f"postgresql://penstock:wrong@127.0.0.1:{servers.postgres.port}/penstock")


def test_a_half_made_cluster_is_made_again(tmp_path: Path) -> None:
    home = Home(tmp_path)
    with home.locked():
        (home.postgres / "data" / "base").mkdir(parents=True)
        (home.postgres / "data" / "PG_VERSION").write_text("18\n")

        with Postgres(home).running() as postgres, psycopg.connect(postgres.url) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)


def test_lost_data_is_not_replaced_by_an_empty_cluster_in_silence(tmp_path: Path) -> None:
    home = Home(tmp_path)
    with home.locked():
        record_choice(home, choose_privileges(home))

        with pytest.raises(ServerFailed, match="is gone"):
            Postgres(home).start()


def test_a_pid_file_that_names_a_stranger_does_not_hold_up_the_start(tmp_path: Path) -> None:
    home = Home(tmp_path)
    with home.locked():
        with Postgres(home).running() as postgres:
            data = postgres.privileges.data
        (data / "postmaster.pid").write_text(f"{os.getppid()}\n{data}\n1\n{postgres.port}\n\n127.0.0.1\n")

        with Postgres(home).running() as postgres, psycopg.connect(postgres.url) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Give a folder that every user may pass through, as /var/lib is."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.skipif(not IS_ROOT, reason="only root has to give up its privileges")
@pytest.mark.parametrize("way", [Way.NAMESPACE, Way.DROPPED])
def test_root_runs_postgres_in_a_private_home_each_way(way: Way, tmp_path: Path, open_folder: Path) -> None:
    home = Home(tmp_path)
    with home.locked():
        try:
            privileges = choose_privileges(home, ways=[way], outside=[open_folder])
        except InvalidSetting:
            if way is Way.NAMESPACE:
                pytest.skip("user namespaces are refused here")
            raise
        with Postgres(home, privileges=privileges).running() as postgres:
            assert postgres.process is not None
            postgres.process.send_signal(signal.SIGKILL)
            postgres.process.wait()
            postgres.start()
            psycopg.connect(postgres.url).close()

        assert choose_privileges(home) == privileges  # chosen once, whatever would be chosen now


OURSELVES_SCRIPT = """
import os, sys
from pathlib import Path
from stack.home import Home, free_port
from stack.servers import EmbeddedServers
with EmbeddedServers.started(Home(Path(sys.argv[1]))) as servers:
    print(os.geteuid(), servers.postgres.privileges.way)
"""


def test_an_ordinary_user_runs_postgres_as_itself(tmp_path: Path) -> None:
    unshare = ["unshare", "--user", "--map-user=65534", "--map-group=65534"] if IS_ROOT else []
    if IS_ROOT and subprocess.run([*unshare, "true"], check=False).returncode != 0:
        pytest.skip("user namespaces are refused here")

    ran = subprocess.run(
        [*unshare, sys.executable, "-c", OURSELVES_SCRIPT, str(tmp_path / "home")],
        capture_output=True,
        text=True,
        check=True,
    )

    assert ran.stdout.split()[1] == Way.OURSELVES
    assert ran.stdout.split()[0] != "0"


def test_a_foreign_server_on_our_port_is_not_taken_for_ours(tmp_path: Path) -> None:
    ours, theirs = Home(tmp_path / "ours"), Home(tmp_path / "theirs")
    with ours.locked(), theirs.locked(), Valkey(theirs).running() as foreign:
        (ours.root / "ports.json").write_text(f'{{"valkey": {foreign.port}}}')

        with Valkey(ours).running() as valkey:
            assert valkey.port != foreign.port


def test_a_name_keeps_its_port_and_the_preferred_one_comes_first(tmp_path: Path) -> None:
    home = Home(tmp_path)
    wished = free_port() or 0

    with home.locked():
        assert home.port_for("flower", preferred=wished) == wished
        assert home.port_for("flower", preferred=1) == wished
