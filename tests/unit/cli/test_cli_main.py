"""Every way to fail has its exit code and one line; none has a traceback."""

from pathlib import Path

import pytest

from cli.client.errors import ApiFailed, ApiUnreachable, BatchIncomplete
from cli.main import EPILOG, EXIT_CODES, main
from config.catalogue import CatalogueError
from config.settings import SettingError
from schemas.errors import Forbidden, InvalidRequest, InvalidSetting, NotFound, PenstockError, Unauthenticated


def _code(error: Exception) -> int:
    return next(code for kind, code in EXIT_CODES if isinstance(error, kind))


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidRequest(), 1),
        (ApiFailed(), 1),
        (PenstockError(), 1),
        (FileNotFoundError(), 1),
        (NotFound(), 3),
        (Unauthenticated(), 4),
        (Forbidden(), 4),
        (ApiUnreachable(), 5),
        (InvalidSetting(), 6),
        (SettingError(), 6),
        (CatalogueError(), 6),
        (BatchIncomplete(), 7),
    ],
)
def test_an_error_ends_with_the_code_of_its_family(error: Exception, code: int) -> None:
    assert _code(error) == code
    assert f"{code} " in EPILOG


@pytest.mark.parametrize("wrong", [["nonsense"], ["jobs", "list", "--state", "asleep"], ["submit", "no-such-file"]])
def test_wrong_usage_is_one_line_and_code_two(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(wrong, {}) == 2

    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_help_names_every_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"], {}) == 0

    shown = " ".join(capsys.readouterr().out.split())
    assert "Exit codes: 0 done, 1 failure, 2 wrong usage" in shown
    assert "dead-letters" in shown


def test_without_a_key_nothing_is_sent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["jobs", "list", "--home", str(tmp_path)], {}) == 4

    assert "PENSTOCK_API_KEY" in capsys.readouterr().err


def test_an_address_that_is_none_is_a_refused_setting(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["jobs", "list", "--url", "localhost:8080", "--home", str(tmp_path)], {"PENSTOCK_API_KEY": "k"}) == 6

    assert "http://" in capsys.readouterr().err


def test_status_of_an_empty_home_is_not_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--home", str(tmp_path)], {}) == 3
    assert main(["down", "--home", str(tmp_path)], {}) == 0

    assert "penstock up" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("typed", "home"),
    [
        (["status"], "of-env"),
        (["--home", "before", "status"], "before"),
        (["status", "--home", "after"], "after"),
        (["--home", "before", "status", "--home", "after"], "after"),
    ],
)
def test_an_option_after_the_verb_wins_over_one_before_it(
    typed: list[str], home: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PENSTOCK_HOME", "of-env")

    assert main(typed, {}) == 3

    assert f"no penstock runs in {home};" in capsys.readouterr().err


def test_check_names_the_line_of_a_wrong_setting(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "penstock.toml"
    config.write_text('[models."gpt-4.1"]\nrequests_per_minit = 5\n')

    assert main(["check"], {"PENSTOCK_CONFIG": str(config)}) == 6

    assert "penstock.toml:2" in capsys.readouterr().err


def test_a_replay_must_say_what(tmp_path: Path) -> None:
    key = {"PENSTOCK_API_KEY": "k"}

    assert main(["dead-letters", "replay", "--home", str(tmp_path)], key) == 2
    assert main(["dead-letters", "replay", "job_1", "--all", "--home", str(tmp_path)], key) == 2
