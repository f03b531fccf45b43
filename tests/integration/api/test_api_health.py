"""Probes and the description: open to who holds no key, and silent about addresses. Metrics: to scrapers alone."""

import httpx2

from tests.integration.api.conftest import SCRAPE, Premises
from tests.support.web_process import MESSAGES, eventually


def test_a_ready_door_says_so(stranger: httpx2.Client) -> None:
    answer = stranger.get("/readyz")

    assert (answer.status_code, answer.json()["status"]) == (200, "ready")


def test_metrics_are_for_the_scrape_key_and_operators_alone(
    premises: Premises, stranger: httpx2.Client, caller: httpx2.Client, operator: httpx2.Client
) -> None:
    with premises.client(SCRAPE) as scraper, premises.client("pk_wrong") as wrong:
        clients = (stranger, wrong, caller, operator, scraper)
        codes = [client.get("/metrics").status_code for client in clients]
        elsewhere = {scraper.get(path).status_code for path in ("/jobs", "/limits", "/budgets", "/v1/models")}

    assert codes == [401, 401, 403, 200, 200]
    assert elsewhere == {401}


def test_metrics_name_routes_by_their_template_and_hold_depths(operator: httpx2.Client, caller: httpx2.Client) -> None:
    caller.get("/jobs/job_1")
    caller.post("/jobs", json={"model": "small", "messages": MESSAGES, "lane": "low"})

    text = eventually(
        lambda: operator.get("/metrics").text, lambda text: 'penstock_jobs{lane="low",state="queued"}' in text
    )

    assert 'route="/jobs/{job_id}",status="404"' in text
    assert "job_1" not in text


def test_the_description_names_every_route_and_the_shape_of_errors(stranger: httpx2.Client) -> None:
    described = stranger.get("/openapi.json").json()
    page = stranger.get("/docs")
    root = stranger.get("/").json()

    assert {"/v1/chat/completions", "/jobs/{job_id}", "/dead-letters/replay", "/readyz"} <= set(described["paths"])
    answers = described["paths"]["/jobs"]["post"]["responses"]
    assert set(answers) == {"200", "default"}
    assert page.status_code == 200
    assert "POST /v1/chat/completions" in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert stranger.get("/redoc").status_code == 404
    assert root["docs"] == "/docs"
