"""Dead letters over HTTP: seen by cause, replayed with changes, exported, and what is refused by name."""

import uuid
from unittest.mock import ANY

import httpx2
import orjson
import pytest

from cli.commands import dead_letters as letters_cli
from cli.commands import replays as replays_cli
from schemas.jsons import JsonObject
from tasks.dead_letters.importing import LETTERS_PER_WRITE
from tests.integration.api.conftest import Premises, new_key
from tests.support.web_process import MESSAGES, error_of, eventually

BODY: JsonObject = {"model": "small", "messages": MESSAGES}


def a_letter(caller: httpx2.Client, scenario: str = "refusal", **more: object) -> str:
    """A call that dies; returns the id of its job."""
    said = [{"role": "user", "content": f"[[scenario:{scenario}]] {uuid.uuid4().hex}"}]
    contract = {"schema": {"type": "object"}}
    answer = caller.post("/v1/chat/completions", json=BODY | {"messages": said, "output_contract": contract} | more)
    assert answer.status_code >= 400, answer.text
    job_id: str = caller.get("/jobs", params={"limit": 1}).json()["data"][0]["id"]
    return job_id


def ids(caller: httpx2.Client, **wanted: str) -> list[str]:
    return [row["id"] for row in caller.get("/dead-letters", params=wanted).json()["data"]]


def test_dead_letters_are_listed_grouped_and_told_whole(caller: httpx2.Client) -> None:
    refused, truncated = a_letter(caller), a_letter(caller, "truncation")

    [listed] = caller.get("/dead-letters", params={"reason": "refused"}).json()["data"]
    groups = caller.get("/dead-letters/groups").json()["data"]
    story = caller.get(f"/dead-letters/{refused}").json()

    assert (listed["id"], listed["attempts"]) == (refused, len(story["attempts"]))
    assert set(letters_cli.COLUMNS) <= set(listed)
    assert {group["reason"]: (group["count"], group["example"]) for group in groups} == {
        "refused": (1, refused),
        "truncated": (1, truncated),
    }
    assert set(letters_cli.GROUP_COLUMNS) <= set(groups[0])
    assert story["attempts"][-1]["reply"]["choices"][0]["message"]["refusal"]


def test_a_tenant_sees_and_replays_its_own_dead_letters_only(caller: httpx2.Client, operator: httpx2.Client) -> None:
    own, foreign = a_letter(caller), a_letter(operator)

    seen = ids(caller)
    refused = caller.post("/dead-letters/replay", json={"ids": [foreign]})
    replayed = caller.post("/dead-letters/replay", json={"filter": {}})

    assert seen == [own]
    assert refused.status_code == 404
    assert replayed.json()["replayed"] == [own]
    assert foreign in ids(operator)


def test_letters_of_one_prompt_are_listed_grouped_and_replayed_apart(caller: httpx2.Client) -> None:
    other, wanted = a_letter(caller), a_letter(caller, prompt="invoices")

    listed = ids(caller, prompt="invoices")
    groups = caller.get("/dead-letters/groups", params={"prompt": "invoices"}).json()["data"]
    replay = caller.post("/replays", json={"filter": {"prompt": "invoices"}}).json()

    assert listed == [wanted]
    assert [(group["count"], group["example"]) for group in groups] == [(1, wanted)]
    assert (replay["total"], replay["filter"]["prompt"]) == (1, "invoices")
    eventually(lambda: ids(caller), lambda left: left == [other])


def test_a_replay_may_change_the_request_its_price_and_its_deadline(caller: httpx2.Client) -> None:
    letter = a_letter(caller)
    changed = BODY | {"messages": [{"role": "user", "content": "again"}]}
    wanted = {"ids": [letter, "job_9"], "body": changed, "max_cost_usd": "0.5", "deadline_seconds": 60}

    answer = caller.post("/dead-letters/replay", json=wanted)

    story = caller.get(f"/jobs/{letter}").json()
    assert answer.json() == {"replayed": [letter], "not_found": ["job_9"]}
    assert (story["state"], story["request"]) == ("queued", changed)


def test_a_replay_is_begun_watched_and_cancelled_by_its_tenant_only(
    caller: httpx2.Client, premises: Premises, operator: httpx2.Client, tenant: str
) -> None:
    for _ in range(2):
        a_letter(caller)
    other = new_key(operator, f"{tenant}-other")
    patch = {"model": "dear", "lane": "high", "parameters": {"temperature": 0}, "message": "b", "max_cost_usd": "0.5"}

    begun = caller.post("/replays", json={"filter": {}, "patch": patch, "canary": 1}).json()
    shown = caller.get(f"/replays/{begun['id']}").json()
    with premises.client(other) as stranger:
        theirs = stranger.get(f"/replays/{begun['id']}")
    ended = [caller.post(f"/replays/{begun['id']}/cancel").json()["state"] for _ in range(2)]
    resumed = caller.post(f"/replays/{begun['id']}/resume")

    assert (begun["state"], begun["total"], begun["patch"]["max_cost_usd"]) == ("canary", 2, "0.500000000")
    assert {"jobs", "refusals"} <= set(shown)
    assert (theirs.status_code, ended, resumed.status_code) == (404, ["cancelled"] * 2, 400)
    assert set(replays_cli.COLUMNS) <= set(begun)


def test_a_dry_run_tells_the_price_and_begins_nothing(caller: httpx2.Client) -> None:
    letters = [a_letter(caller) for _ in range(2)]

    told = caller.post("/replays", json={"filter": {}, "dry_run": True}).json()

    assert (told["count"], told["unpriced"]) == (2, 0)
    assert 0 < float(told["one_call_usd"]) < float(told["worst_case_usd"])
    assert caller.get("/replays").json()["data"] == []
    assert sorted(ids(caller)) == sorted(letters)


def told(caller: httpx2.Client, **wanted: str) -> list[JsonObject]:
    """The lines of an export."""
    lines = caller.get("/dead-letters/export", params=wanted).content.splitlines()
    return [orjson.loads(line) for line in lines]


def lines_of(letters: list[JsonObject]) -> bytes:
    return b"".join(orjson.dumps(letter, option=orjson.OPT_APPEND_NEWLINE) for letter in letters)


def test_an_import_of_what_is_here_leaves_it_as_it_is(caller: httpx2.Client) -> None:
    a_letter(caller)
    before = told(caller)

    taken = caller.post("/dead-letters/import", content=lines_of([*before, *before]))

    assert taken.json() == {"checked": 2, "imported": 0, "known": 2}
    assert told(caller) == before


def test_what_was_put_aside_comes_back_by_an_import_as_it_was(caller: httpx2.Client) -> None:
    letter = a_letter(caller)
    exported = told(caller)
    caller.post("/dead-letters/discard", json={"ids": [letter]})

    taken = caller.post("/dead-letters/import", content=lines_of(exported))

    moved = {"rested_at": ANY}
    assert taken.json() == {"checked": 1, "imported": 1, "known": 0}
    assert told(caller) == [exported[0] | moved]


def test_a_letter_from_elsewhere_keeps_its_terms_and_its_cause(caller: httpx2.Client) -> None:
    a_letter(caller, "truncation")
    [exported] = told(caller)
    terms = {"prompt": "invoices", "max_cost_usd": "0.250000000", "user": "ann", "max_tries": 3, "lane": "low"}
    foreign = exported | terms | {"id": f"job_{uuid.uuid4().hex}"}

    taken = caller.post("/dead-letters/import", content=lines_of([foreign, foreign]))

    stays = {"attempts": [], "attempt_count": 0, "cost_usd": "0.000000000", "tries": 0}
    here = {"created_at": ANY, "rested_at": ANY, "batch_id": None}
    assert taken.json() == {"checked": 2, "imported": 1, "known": 1}
    assert [letter for letter in told(caller) if letter["id"] == foreign["id"]] == [foreign | stays | here]


def test_wrong_lines_are_named_by_their_numbers_and_nothing_is_imported(caller: httpx2.Client) -> None:
    a_letter(caller)
    [exported] = told(caller)
    good = lines_of([exported | {"id": f"job_{uuid.uuid4().hex}"}])
    content = good + b"\n" + b'{"id": "job_3"}\n' + good + b"{\n" + good

    answer = caller.post("/dead-letters/import", params={"first_line": 100}, content=content)

    assert (answer.status_code, error_of(answer)["param"]) == (400, "request")
    said = error_of(answer)["message"]
    assert said.startswith("line 102: request must be an object")
    assert said.endswith("Also wrong: 104. Nothing was imported.")
    assert told(caller) == [exported]


def test_letters_beyond_one_write_are_all_imported_and_none_by_a_dry_run(caller: httpx2.Client) -> None:
    a_letter(caller)
    [exported] = told(caller)
    many = 2 * LETTERS_PER_WRITE + 1
    letters = [exported | {"id": f"job_{uuid.uuid4().hex}", "model": "imported"} for _ in range(many)]

    dry = caller.post("/dead-letters/import", params={"dry_run": True}, content=lines_of(letters))
    nothing = told(caller, model="imported")
    taken = caller.post("/dead-letters/import", content=lines_of(letters))

    assert (dry.json(), nothing) == ({"checked": many, "imported": 0, "known": 0}, [])
    assert taken.json() == {"checked": many, "imported": many, "known": 0}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"filter": {}, "canary": -1}, "canary"),
        ({"filter": {}, "threshold": 2}, "threshold"),
        ({"filter": {}, "per_second": 0}, "per_second"),
        ({"filter": {"group": "a b"}}, "id"),
        ({"filter": {"since": "yesterday"}}, "filter.since"),
        ({"filter": {}, "patch": {"model": "gone"}}, "model"),
        ({"filter": {}, "patch": {"lane": "express"}}, "patch.lane"),
        ({"filter": {}, "patch": {"parameters": {"model": "small"}}}, "parameters"),
        ({"filter": {}, "patch": {"parameters": {"response_format": {}}}}, "parameters"),
        ({"filter": {}, "patch": {"contract": {"type": 1}}}, "contract"),
        ({"filter": {}, "patch": {"message": {"role": "user"}}}, "message"),
        ({"filter": {}, "patch": {"colour": "red"}}, "patch.colour"),
    ],
)
def test_a_wrong_wish_is_named(caller: httpx2.Client, body: JsonObject, param: str) -> None:
    answer = caller.post("/replays", json=body)

    assert answer.status_code in {400, 404}
    assert error_of(answer)["param"] == param


def test_dead_letters_are_put_aside(caller: httpx2.Client) -> None:
    refused, truncated = a_letter(caller), a_letter(caller, "truncation")

    answer = caller.post("/dead-letters/discard", json={"filter": {"reason": "refused"}})

    assert answer.json()["discarded"] == [refused]
    assert ids(caller) == [truncated]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "ids"),
        ({"ids": ["a"], "filter": {}}, "ids"),
        ({"ids": []}, "ids"),
        ({"ids": [1]}, "ids.0"),
        ({"filter": {"reason": "bored"}}, "filter.reason"),
        ({"filter": {"colour": "red"}}, "filter.colour"),
        ({"filter": {"model": "a\0"}}, "filter.model"),
        ({"filter": {}, "deadline_seconds": 0}, "deadline_seconds"),
        ({"filter": {}, "max_cost_usd": "1e30"}, "max_cost_usd"),
        ({"filter": {}, "body": {"model": "gone", "messages": MESSAGES}}, "model"),
        ({"ids": ["a"], "everything": True}, "everything"),
    ],
)
def test_a_wrong_replay_is_named(caller: httpx2.Client, body: JsonObject, param: str) -> None:
    answer = caller.post("/dead-letters/replay", json=body)

    assert answer.status_code in {400, 404}
    assert error_of(answer)["param"] == param
