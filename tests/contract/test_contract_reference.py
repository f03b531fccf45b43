"""The reference pages and the OpenAPI description are those of the code. `scripts/reference` writes them."""

import ast

import pytest

from tests.chaos.faults import Faults
from tests.chaos.verdict import ZEROS
from tests.contract.reference.log_events import Event, events_in
from tests.contract.reference.pages import FILES, path_of


@pytest.mark.parametrize("name", FILES)
def test_a_generated_file_is_what_the_code_says_now(name: str) -> None:
    path = path_of(name)

    kept = path.read_text(encoding="utf-8") if path.exists() else ""

    # compared before the assertion: pytest would otherwise print two whole pages
    is_current = kept == FILES[name]()
    assert is_current, f"{name} is stale: run `scripts/reference` and commit what it changes"


def test_every_page_is_linked_from_the_list() -> None:
    linked = path_of("docs/reference/README.md").read_text(encoding="utf-8")

    pages = [path_of(name).name for name in FILES]

    assert [page for page in pages if f"{page})" not in linked] == []


def test_the_page_of_the_campaign_names_every_fault_and_figure() -> None:
    text = path_of("tests/chaos/README.md").read_text(encoding="utf-8")

    assert [name for name in (*Faults.KINDS, *ZEROS) if f"`{name}`" not in text] == []


def test_an_event_that_a_function_logs_for_its_caller_is_the_callers() -> None:
    guard = "def guarded(step, event, **ids):\n    log.exception(event, **ids)\n"
    caller = "def run(job):\n    guarded(job.step, 'step_failed', job_id=job.id)\n"

    events = list(events_in([("guard", ast.parse(guard)), ("caller", ast.parse(caller))]))

    assert events == [Event(name="step_failed", level="exception", module="caller", keys=("job_id",))]


def test_a_name_for_two_methods_of_the_logger_has_both_levels() -> None:
    source = "def answer(quiet):\n    note = log.debug if quiet else log.info\n    note('answered', ms=1)\n"

    levels = {event.level for event in events_in([("api", ast.parse(source))])}

    assert levels == {"debug", "info"}


def test_an_event_without_a_name_in_the_source_is_refused() -> None:
    source = "def end(job):\n    log.info(job.state, job_id=job.id)\n"

    with pytest.raises(ValueError, match="api:2: the name of the event cannot be found"):
        list(events_in([("api", ast.parse(source))]))
