import pytest

from schemas.errors import InvalidSetting
from stack.process import CHECKOUT
from stack.procfile import ProcessLine, multiply, parse_procfile


def test_release_is_kept_apart_from_the_processes() -> None:
    procfile = parse_procfile("# a comment\nrelease: migrate now\n\nweb: serve --port=$PORT\n")

    assert procfile.release == ProcessLine(name="release", command="migrate now")
    assert procfile.processes == (ProcessLine(name="web", command="serve --port=$PORT"),)


@pytest.mark.parametrize("text", ["web serve", "web:", "a b: serve"])
def test_a_line_that_is_no_process_is_named_by_its_number(text: str) -> None:
    with pytest.raises(InvalidSetting, match="line 2"):
        parse_procfile(f"ok: true\n{text}\n")


def test_the_same_name_twice_is_refused() -> None:
    with pytest.raises(InvalidSetting, match="'web' twice"):
        parse_procfile("web: a\nweb: b\n")


def test_a_process_wanted_twice_is_numbered_and_others_keep_their_names() -> None:
    lines = parse_procfile("web: a\nstandard: b\n").processes

    assert [line.name for line in multiply(lines, {"standard": 2})] == ["web", "standard-1", "standard-2"]


def test_our_own_procfile_names_the_seven_processes() -> None:
    procfile = parse_procfile((CHECKOUT / "Procfile").read_text(encoding="utf-8"))

    assert procfile.release is not None
    assert [line.name for line in procfile.processes] == [
        *("web", "interactive", "standard", "bulk", "upkeep", "flower")
    ]
