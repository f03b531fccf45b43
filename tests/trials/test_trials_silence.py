"""A process that lives and does nothing is ended and replaced, and nobody else's work is lost for it."""

import asyncio
import time
from collections.abc import Iterator

import pytest

from tests.support.figures import Figures
from tests.support.hanging import HANG_MODULE, hang, with_hang
from tests.support.trial_callers import Callers
from tests.support.trial_stack import TrialStack, eventually
from tests.trials.conftest import assert_logs_hold_no_content

REPLACED_SECONDS = 15.0
"""Ten of silence until the watchdog ends a process, and a new one to start."""

GIVE_UP_SECONDS = 60.0
JOBS = 60


@pytest.fixture(scope="module")
def hangable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrialStack]:
    with TrialStack.started(tmp_path_factory.mktemp("silence") / "home", env=with_hang({})) as running:
        before = running.log_sizes()
        yield running
        assert_logs_hold_no_content(running, since=before)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["web", "interactive", "standard-1", "bulk", "upkeep"])
async def test_a_silent_process_is_replaced_and_no_job_is_lost(
    hangable: TrialStack, figures: Figures, name: str
) -> None:
    before, old = hangable.log_sizes(), hangable.pid(name)
    async with Callers.of(hangable, "b") as b:
        accepted = await asyncio.gather(*(b.submit({"delay_ms": 1_000}) for _ in range(JOBS)))
        began = time.monotonic()
        hang(old)

        async def replaced() -> bool:
            is_new = hangable.pid(name) not in {0, old}
            return is_new and (name != "web" or (await b.ask("GET", "/readyz")).is_ok)

        is_replaced = await eventually(replaced, within_seconds=GIVE_UP_SECONDS)
        seconds = time.monotonic() - began
        ends = await hangable.at_rest([job.json["id"] for job in accepted], within_seconds=GIVE_UP_SECONDS)

    figures.note(f"{name} hangs", "replaced after, s", seconds, f"<= {REPLACED_SECONDS}")
    figures.note(f"{name} hangs", "jobs not completed", sum(end.state != "completed" for end in ends.values()), "0")
    assert is_replaced
    assert seconds <= REPLACED_SECONDS
    assert {end.state for end in ends.values()} == {"completed"}
    assert HANG_MODULE in hangable.stack.logs(name) or hangable.logs_with(HANG_MODULE, since=before)
