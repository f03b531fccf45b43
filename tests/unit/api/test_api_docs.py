"""The page of routes holds nothing from elsewhere and no script, whatever the description says."""

import re

from api.native.docs import POLICY, page_of

DESCRIPTION = {
    "info": {"title": "<b>Penstock</b>", "description": "a & b"},
    "paths": {
        "/jobs/{job_id}": {
            "get": {"tags": ["jobs"], "description": "Tell all <script>alert(1)</script> that is known."},
            "post": {"summary": "Do"},
        }
    },
}


def test_a_page_lists_each_route_with_its_words_escaped() -> None:
    page = page_of(DESCRIPTION)

    assert "<code>GET /jobs/{job_id}</code></td><td>Tell all &lt;script&gt;" in page
    assert "<code>POST /jobs/{job_id}</code></td><td>Do</td>" in page
    assert "<h2>jobs</h2>" in page
    assert "<h2>other</h2>" in page
    assert "&lt;b&gt;Penstock&lt;/b&gt;" in page


def test_a_page_loads_nothing() -> None:
    page = page_of(DESCRIPTION)

    assert "<script" not in page
    assert re.findall(r'(?:src|href)="([^"]*)"', page) == ["/openapi.json"]
    assert POLICY.startswith("default-src 'none'")
