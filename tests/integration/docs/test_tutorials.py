"""Every block of the tutorials runs, in order, and prints what its page shows."""

import os
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.doc_pages import blocks_of, prints, run_page
from tests.support.simulator_process import CHECKOUT
from tests.support.stack_process import StackProcess

TUTORIALS = CHECKOUT / "docs" / "tutorials"
PAGES = ("first-batch", "contract-and-reprompt", "budget", "dead-letter-to-replay")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StackProcess]:
    """What `penstock up` starts where no provider is named, without a configuration of its own."""
    with StackProcess.started(tmp_path_factory.mktemp("stack") / "home", provider=None, config="") as running:
        yield running


@pytest.fixture(scope="module")
def runs(stack: StackProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, "Future[None]"]]:
    """All pages at once, because most of a page is waiting."""
    with ThreadPoolExecutor(max_workers=len(PAGES)) as pool:
        yield {
            name: pool.submit(run_page, TUTORIALS / f"{name}.md", tmp_path_factory.mktemp(name), reader(stack, name))
            for name in PAGES
        }


def reader(stack: StackProcess, tenant: str) -> dict[str, str]:
    """The environment of somebody who has followed `Before you start`, with an operator's key of a tenant of their own.

    The checkout is this one.
    """
    created = stack.api.post("keys", body={"tenant_id": tenant, "scopes": ["operator", "submit"]})
    return {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(CHECKOUT),
        "PENSTOCK_URL": stack.url,
        "PENSTOCK_ADMIN_KEY": str(created["key"]),
    }


@pytest.mark.parametrize("name", PAGES)
def test_a_tutorial_does_what_it_says(name: str, runs: dict[str, "Future[None]"]) -> None:
    runs[name].result()


def test_every_tutorial_is_run_and_shows_what_it_prints() -> None:
    written = {page.stem for page in TUTORIALS.glob("*.md")} - {"README"}

    kinds = {name: {block.kind for block in blocks_of(TUTORIALS / f"{name}.md")} for name in PAGES}

    assert written == set(PAGES)
    assert all(found == {"sh", "python", "text"} for found in kinds.values())


def test_a_page_that_shows_something_else_is_noticed() -> None:
    printed = "batch_7 validating\nbatch_7 completed: 4 of 4\n"

    assert prints("…\nbatch_…   completed: 4 of 4", printed)
    assert not prints("batch_… completed: 4 of 4", printed)
    assert not prints("…\nbatch_… completed: 5 of 5", printed)
