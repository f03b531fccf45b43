"""Limits of descriptors, set on real processes before they start."""

import os
import resource
import subprocess
import sys
from functools import partial

import pytest
from pydantic import SecretStr

from config.descriptors import BESIDE_CALLS, needed_by_web, needed_by_worker
from config.settings import Settings

RAISED = (
    "from config.descriptors import raise_descriptor_limit as r; import resource; print(r(), *resource.getrlimit(7))"
)
STORES = {"PENSTOCK_REDIS_URL": "redis://127.0.0.1:1", "PENSTOCK_DATABASE_URL": "postgresql://127.0.0.1:1/none"}


def run_under(soft: int, hard: int, *words: str, **env: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, *words],
        env=os.environ | STORES | env,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        preexec_fn=partial(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard)),
    )


@pytest.mark.skipif(resource.RLIMIT_NOFILE != 7, reason="the number is that of Linux")
def test_the_soft_limit_is_raised_to_the_hard_one() -> None:
    assert run_under(1_024, 4_000, "-c", RAISED).stdout.split() == ["4000", "4000", "4000"]


@pytest.mark.parametrize(
    "words",
    [
        ("-m", "api"),
        ("-m", "workers.upkeep"),
        ("-m", "workers.upkeep.isolated_job", "job_1", "0"),
        ("-m", "celery", "-A", "workers.app", "worker"),
    ],
    ids=lambda words: words[1],
)
def test_a_process_refuses_to_start_where_its_slots_cannot_be_served(words: tuple[str, ...]) -> None:
    done = run_under(200, 200, *words)

    assert done.returncode == 6
    assert "need" in done.stderr
    assert "descriptors and this process may have 200" in done.stderr.strip().splitlines()[-1]


def test_check_says_the_figure_or_refuses() -> None:
    fits = run_under(1_024, 4_000, "-m", "cli", "check", PENSTOCK_REDIS_URL="", PENSTOCK_DATABASE_URL="")
    short = run_under(200, 200, "-m", "cli", "check", PENSTOCK_REDIS_URL="", PENSTOCK_DATABASE_URL="")

    assert "4000 allowed, 1506 needed" in fits.stdout
    assert short.returncode == 6


def test_waiting_callers_have_connections_and_web_more_calls_than_slots() -> None:
    settings = Settings(redis_url=SecretStr("redis://"), database_url=SecretStr("postgresql://"), slots=600)

    assert needed_by_worker(settings) == 600 + BESIDE_CALLS
    assert needed_by_web(settings) == 2 * settings.call_places + BESIDE_CALLS == 1_500 + BESIDE_CALLS
