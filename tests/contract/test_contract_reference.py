"""The reference pages and the OpenAPI description are those of the code. `scripts/reference` writes them."""

import pytest

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
