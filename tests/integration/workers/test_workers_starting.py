"""The Procfile's own lines, as they stand: `celery -A workers.app …`. A start that is refused is one line."""

import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from stack.home import free_port
from stack.procfile import parse_procfile
from tests.support.worker_process import CHECKOUT, Broker, until

START_SECONDS = 30


def environment(broker: Broker, **changes: object) -> dict[str, str]:
    given = {"PENSTOCK_REDIS_URL": broker.url, "PENSTOCK_DATABASE_URL": "postgresql://unused@localhost/unused"}
    return {**os.environ, **given, **{name: str(value) for name, value in changes.items()}}


def refused(broker: Broker, app: str, words: Sequence[str], **changes: object) -> tuple[int, str]:
    ended = subprocess.run(
        [sys.executable, "-m", "celery", "-A", app, *words],
        cwd=CHECKOUT,
        env=environment(broker, **changes),
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
        check=False,
    )
    return ended.returncode, ended.stderr


def test_a_wrong_setting_refuses_a_worker_with_one_line(broker: Broker) -> None:
    code, said = refused(broker, "workers.app", ["worker"], PENSTOCK_SLOTS=0)

    assert code == 6
    assert said == "worker: PENSTOCK_SLOTS: Input should be greater than or equal to 1\n"


def test_another_pool_is_refused(broker: Broker) -> None:
    code, said = refused(broker, "tests.support.worker_app", ["worker", "-P", "threads"])

    assert code == 6
    assert "tasks are coroutines" in said


def test_flower_starts_from_its_line_of_the_procfile(broker: Broker, tmp_path: Path) -> None:
    procfile = parse_procfile((CHECKOUT / "Procfile").read_text(encoding="utf-8"))
    command = next(line.command for line in procfile.processes if line.name == "flower")
    port = free_port()
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            ["/bin/sh", "-c", f"exec {command}"],
            cwd=CHECKOUT,
            env=environment(broker, PATH=path, PENSTOCK_FLOWER_PORT=port),
            stdout=log,
            stderr=log,
        )
    try:
        until(lambda: answers(f"http://127.0.0.1:{port}/healthcheck"), "Flower answers", START_SECONDS)
    finally:
        process.terminate()
        process.wait(START_SECONDS)


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - loopback
            return bool(answer.status == 200)
    except (urllib.error.URLError, TimeoutError):
        return False
