"""Marks of what a process works on, read after its death. Each process that dies here is a real one."""

import subprocess
import sys
from pathlib import Path

import pytest

from config.marks import FOLDER, LastMark, last_marks, marks_of, synchronous_step

PROGRAM = """
import os, signal, sys
from pathlib import Path
from config.marks import marks_of, synchronous_step

def die():
    os.kill(os.getpid(), signal.SIGKILL)

with marks_of(Path(sys.argv[1]), "web@host:1:ab") as marking:
    with marking("job_1"):
        with synchronous_step():
            sys.argv[2] == "inside" and die()
        sys.argv[2] == "between" and die()
    with synchronous_step():
        sys.argv[2] == "outside" and die()
"""


def left_by(home: Path, where: str) -> list[LastMark]:
    subprocess.run([sys.executable, "-c", PROGRAM, str(home), where], check=False)
    with last_marks(home) as marks:
        return marks


@pytest.mark.parametrize(("where", "job_id"), [("inside", "job_1"), ("between", None), ("outside", None)])
def test_a_killed_process_leaves_the_job_whose_step_ran(tmp_path: Path, where: str, job_id: str | None) -> None:
    assert left_by(tmp_path, where) == [LastMark(holder="web@host:1:ab", job_id=job_id)]


def test_a_process_that_ends_by_itself_leaves_nothing(tmp_path: Path) -> None:
    assert left_by(tmp_path, "nowhere") == []
    assert list((tmp_path / FOLDER).iterdir()) == []


def test_the_mark_of_a_living_process_is_left_alone(tmp_path: Path) -> None:
    with marks_of(tmp_path, "w") as marking, marking("job_1"), synchronous_step(), last_marks(tmp_path) as marks:
        assert marks == []


def test_steps_of_two_jobs_name_their_own(tmp_path: Path) -> None:
    with marks_of(tmp_path, "w") as marking:
        [path] = (tmp_path / FOLDER).iterdir()
        with marking("job_with_a_long_name"):
            with marking("job_2"), synchronous_step():
                assert b"job_2" in path.read_bytes()
            with synchronous_step():
                assert b"job_with_a_long_name" in path.read_bytes()


def test_marks_that_could_not_be_reported_stay(tmp_path: Path) -> None:
    def report() -> None:
        with last_marks(tmp_path) as marks:
            assert marks
            raise ConnectionError

    subprocess.run([sys.executable, "-c", PROGRAM, str(tmp_path), "inside"], check=False)
    with pytest.raises(ConnectionError):
        report()

    with last_marks(tmp_path) as again:
        assert [mark.job_id for mark in again] == ["job_1"]
    with last_marks(tmp_path) as gone:
        assert gone == []


def test_only_one_reader_gets_a_mark(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", PROGRAM, str(tmp_path), "inside"], check=False)

    with last_marks(tmp_path) as first, last_marks(tmp_path) as second:
        assert (len(first), second) == (1, [])


def test_without_a_place_for_marks_jobs_run_unmarked(tmp_path: Path) -> None:
    (tmp_path / FOLDER).write_text("a file is in the way")

    with marks_of(tmp_path, "w") as marking, marking("job_1"), synchronous_step():
        assert (tmp_path / FOLDER).read_text() == "a file is in the way"


@pytest.mark.parametrize("content", [b"", b"\0", b"\xff" * 2_000, b"\x05\0a\0b\0c" + b"\0" * 505 + b"\x03\0w\0\xff"])
def test_a_damaged_mark_is_read_without_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / "w.mark").write_bytes(content)

    with last_marks(tmp_path) as marks:
        assert all("\0" not in f"{mark.holder}{mark.job_id}" for mark in marks)
    with last_marks(tmp_path) as gone:
        assert gone == []
