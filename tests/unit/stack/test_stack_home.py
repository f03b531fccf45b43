import os
import subprocess
import sys
from pathlib import Path

import pytest

from schemas.errors import InvalidSetting
from stack.children import birth_mark
from stack.home import Home, HomeInUse
from stack.logs import Tails, bound
from stack.supervisor import pause_after, words_for


def test_a_home_and_its_secrets_are_private(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")

    with home.locked():
        secret = home.secret("key")

    assert (tmp_path / "home").stat().st_mode & 0o777 == 0o700
    assert (home.secrets / "key").stat().st_mode & 0o777 == 0o600
    assert home.secret("key") == secret
    assert len(secret) == 48


@pytest.mark.parametrize("mode", [0o604, 0o640, 0o620, 0o644, 0o602])
def test_a_secret_that_others_can_read_or_write_is_refused(tmp_path: Path, mode: int) -> None:
    home = Home(tmp_path / "home")
    with home.locked():
        home.secret("key")
        (home.secrets / "key").chmod(mode)

        with pytest.raises(InvalidSetting, match="chmod 600"):
            home.secret("key")


def test_a_secret_that_leads_elsewhere_is_refused(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    (tmp_path / "mine").write_text("known to others")
    (tmp_path / "mine").chmod(0o600)
    with home.locked():
        for name, leads_to in (("known", tmp_path / "mine"), ("nowhere", tmp_path / "missing")):
            (home.secrets / name).symlink_to(leads_to)
            with pytest.raises(InvalidSetting, match="--home"):
                home.secret(name)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_secret_of_another_user_is_refused(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    with home.locked():
        home.secret("key")
        os.chown(home.secrets / "key", 65534, 65534)

        with pytest.raises(InvalidSetting, match="no file of yours"):
            home.secret("key")


def test_a_locked_home_refuses_a_second_holder_and_is_free_afterwards(tmp_path: Path) -> None:
    with Home(tmp_path).locked():
        with pytest.raises(HomeInUse, match="penstock down"), Home(tmp_path).locked():
            pass
        assert Home(tmp_path).holder_pid() == os.getpid()

    assert Home(tmp_path).holder_pid() is None


def test_a_home_that_cannot_be_made_says_what_to_change(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(InvalidSetting, match="--home"), Home(tmp_path / "file" / "home").locked():
        pass


def test_pauses_double_up_to_ten_seconds() -> None:
    assert [pause_after(failures) for failures in (1, 2, 3, 4)] == [0.2, 0.4, 0.8, 1.6]
    assert pause_after(7) == pause_after(1000) == 10.0


def test_what_a_signal_ended_is_back_within_a_second_however_often() -> None:
    assert [pause_after(failures, signalled=True) for failures in (1, 2, 3, 4, 1000)] == [0.2, 0.4, 0.8, 1.0, 1.0]


def test_the_end_of_a_process_is_said_in_words() -> None:
    assert (words_for(3), words_for(-9), words_for(-40)) == ("3", "SIGKILL", "signal 40")
    assert "watchdog" in words_for(-14)


def test_following_logs_shows_whole_lines_once(tmp_path: Path) -> None:
    log = tmp_path / "web.log"
    log.write_text("before\n")
    tails = Tails({"web": log, "bulk-1": tmp_path / "missing.log"})

    with log.open("a") as file:
        file.write("one\ntwo\nhal")
        file.flush()
        first = tails.fresh_lines()
        file.write("f\n")

    assert first == ["web    | one", "web    | two"]
    assert tails.fresh_lines() == ["web    | half"]
    assert tails.fresh_lines() == []


def test_a_log_that_grew_too_long_starts_again_beside_its_past(tmp_path: Path) -> None:
    log = tmp_path / "web.log"
    log.write_text("x" * 100)

    bound(log, keep_bytes=99)

    assert log.read_text() == ""
    assert (tmp_path / "web.log.1").read_text() == "x" * 100


def test_a_process_is_told_from_a_later_one_by_its_birth() -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)

    mark = birth_mark(process.pid)
    process.communicate(b"\n")

    assert mark != ""
    assert birth_mark(process.pid) == ""
