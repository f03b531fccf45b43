"""Which door, and as whom."""

from pathlib import Path

import pytest

from cli.client.address import find_address
from schemas.errors import Unauthenticated
from stack.home import Home
from stack.status import Connection, write_connection

LOCAL = "http://127.0.0.1:9999"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The folder of a stack that has run."""
    folder = Home(tmp_path)
    with folder.locked():
        folder.secret("admin-key")
        connection = Connection(
            url=LOCAL,
            redis_url="redis://127.0.0.1",
            database_url="postgresql://127.0.0.1",
            simulator_url=None,
            flower_url=None,
            admin_key_file=str(folder.secrets / "admin-key"),
        )
        write_connection(folder, connection)
    return tmp_path


def test_a_stack_on_this_machine_is_found_with_its_key(home: Path) -> None:
    found = find_address(None, home, {})

    assert found.url == LOCAL
    assert len(found.key) == 48
    assert found.is_loopback


def test_the_key_of_a_home_is_shown_to_nobody_else(home: Path) -> None:
    with pytest.raises(Unauthenticated):
        find_address("https://elsewhere.example", home, {})


def test_the_environment_comes_before_the_home_and_the_option_before_both(home: Path) -> None:
    env = {"PENSTOCK_URL": "http://a.example/v1/", "PENSTOCK_API_KEY": "mine", "PENSTOCK_ADMIN_KEY": "operators"}

    assert find_address(None, home, env).url == "http://a.example"
    assert find_address("http://b.example", home, env).url == "http://b.example"
    assert find_address(None, home, env).key == "mine"
    assert find_address(None, home, env, as_operator=True).key == "operators"
