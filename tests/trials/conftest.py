"""One running stack for all trials that can share it, and the table of figures at the end of the run."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.figures import FIGURES, Figures
from tests.support.trial_stack import PROMPT_MARKER, REPLY_MARKER, TrialStack


@pytest.fixture(scope="package")
def shared_trials(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrialStack]:
    with TrialStack.started(tmp_path_factory.mktemp("trials") / "home") as running:
        yield running


@pytest.fixture
def trials(shared_trials: TrialStack) -> Iterator[TrialStack]:
    """The shared stack. No log of it may hold a prompt or a reply after any test."""
    before = shared_trials.log_sizes()
    yield shared_trials
    assert_logs_hold_no_content(shared_trials, since=before)


@pytest.fixture
def figures() -> Figures:
    return FIGURES


def assert_logs_hold_no_content(trials: TrialStack, *, since: Mapping[Path, int]) -> None:
    assert trials.logs_with(PROMPT_MARKER, since=since) == [], "a prompt stands in a log"
    assert trials.logs_with(REPLY_MARKER, since=since) == [], "a reply stands in a log"
    for tenant, key in trials.keys.items():
        assert trials.logs_with(key, since=since) == [], f"the key of {tenant} stands in a log"


def pytest_terminal_summary(terminalreporter: Any) -> None:  # noqa: ANN401 - pytest's own, which has no public type
    """Print every figure of the run, also without -s."""
    if FIGURES.rows:
        terminalreporter.section("figures of the trials")
        for line in FIGURES.table():
            terminalreporter.write_line(line)
