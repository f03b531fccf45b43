"""Probes, metrics and the description: open to who holds no key, and silent about addresses."""

from api.gauges import BELIEVED_SECONDS, HouseGauges
from schemas.errors import RedisUnavailable
from tests.support.door import client_of, error_of
from tests.support.house import FakeHouse, FakeWatch


async def test_a_living_process_says_so_whatever_its_stores_do() -> None:
    house = FakeHouse()
    house.watch.wrong = {"postgres": "Postgres cannot be reached.", "redis": None}
    async with client_of(house, key=None) as client:
        alive, ready = await client.get("/healthz"), await client.get("/readyz")

    assert (alive.status_code, ready.status_code) == (200, 503)
    assert ready.json()["checks"]["postgres"] == "Postgres cannot be reached."
    assert error_of(ready)["message"] == "postgres: Postgres cannot be reached."


async def test_a_ready_door_says_so() -> None:
    async with client_of(FakeHouse(), key=None) as client:
        answer = await client.get("/readyz")

    assert (answer.status_code, answer.json()["status"]) == (200, "ready")


async def test_metrics_name_routes_by_their_template_and_hold_depths_and_money() -> None:
    async with client_of(FakeHouse()) as client:
        await client.get("/jobs/job_1")
        text = (await client.get("/metrics")).text

    assert 'route="/jobs/{job_id}",status="404"' in text
    assert 'penstock_jobs{lane="low",state="queued"} 3.0' in text
    assert 'amount="settled",scope="global",window="2026-01-01"} 0.25' in text
    assert "job_1" not in text


async def test_many_scrapes_cost_one_reading() -> None:
    now, watch = [0.0], FakeWatch()
    gauges = HouseGauges(clock=lambda: now[0])

    for moment in (0.0, 1.0, BELIEVED_SECONDS, BELIEVED_SECONDS + 1):
        now[0] = moment
        await gauges.text(watch)

    assert watch.asked == 2


async def test_a_store_that_is_away_costs_its_gauges_only() -> None:
    watch = FakeWatch(trouble=RedisUnavailable(), wrong={"redis": "Redis cannot be reached."})

    text = (await HouseGauges().text(watch)).decode()

    assert 'penstock_part_ready{part="redis"} 0.0' in text
    assert "penstock_jobs{" in text
    assert "penstock_budget_usd{" not in text


async def test_the_description_names_every_route_and_the_shape_of_errors() -> None:
    async with client_of(FakeHouse(), key=None) as client:
        described = (await client.get("/openapi.json")).json()
        page = await client.get("/docs")
        root = (await client.get("/")).json()

    assert {"/v1/chat/completions", "/jobs/{job_id}", "/dead-letters/replay", "/readyz"} <= set(described["paths"])
    answers = described["paths"]["/jobs"]["post"]["responses"]
    assert set(answers) == {"200", "default"}
    assert page.status_code == 200
    assert root["docs"] == "/docs"
