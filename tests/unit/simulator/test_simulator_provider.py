import json
from pathlib import Path

import pytest

from simulator.answers import answer_to, prompt_of
from simulator.chance import draw
from simulator.embeddings import vector
from simulator.faults import NONE, SCENARIOS, checked_shares, drawn, error_of, marked
from simulator.instances import Json
from simulator.meter import Meter, Usage
from simulator.provider import Arrival, Provider, Turned
from simulator.settings import DEFAULT_MODELS, BadSetting, Charge, Latency, Price, Settings, from_file

BODY: dict[str, Json] = {"model": "gpt-4.1-mini", "messages": [{"role": "user", "content": "Say something."}]}


def arrival(body: dict[str, Json] | bytes = BODY, **more: str) -> Arrival:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Arrival(
        key=more.get("key", "k"),
        client_request_id=more.get("client_request_id"),
        scenario=more.get("scenario"),
        latency_ms=None,
        raw=raw,
    )


def fate(provider: Provider, arrived: Arrival) -> str:
    call = provider.read(arrived, provider.next_request_id())
    return provider.with_scenario(call, provider.read_prompt(call).last_user_text).scenario


def test_a_bill_is_rounded_up_to_a_whole_nano_dollar() -> None:
    price = Price.usd("0.05", "0.0005", "0.4")

    assert price.cost_nano_usd(input_tokens=1, cached_input_tokens=0, output_tokens=0) == 50
    assert price.cost_nano_usd(input_tokens=1, cached_input_tokens=1, output_tokens=0) == 1
    assert DEFAULT_MODELS["gpt-4.1"].price.cost_nano_usd(
        input_tokens=1000, cached_input_tokens=400, output_tokens=10
    ) == (600 * 2000 + 400 * 500 + 10 * 8000)


@pytest.mark.parametrize("text", ["fixed:x", "often", "uniform:5", "lognormal:300", "fixed:-1", "fixed:nan"])
def test_a_latency_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(BadSetting):
        Latency.parse(text)


def test_latency_follows_its_distribution() -> None:
    assert Latency.parse("fixed:20").seconds(0.9) == 0.02
    assert Latency.parse("uniform:100-300").seconds(0.5) == pytest.approx(0.2)
    assert Latency.parse("lognormal:300,0.4").seconds(0.5) == pytest.approx(0.3)
    assert Latency.parse("lognormal:300,0.4").seconds(0.99) > 0.6


def test_shares_are_kept_and_repeat_by_seed() -> None:
    shares = checked_shares({"throttle": 0.1, "fenced": 0.2})

    fates = [drawn(shares, draw(1, "call", number)) for number in range(5000)]

    assert fates.count("throttle") / 5000 == pytest.approx(0.1, abs=0.02)
    assert fates.count("fenced") / 5000 == pytest.approx(0.2, abs=0.02)
    assert fates == [drawn(shares, draw(1, "call", number)) for number in range(5000)]


@pytest.mark.parametrize("shares", [{"nonsense": 0.1}, {"throttle": 1.5}, {"throttle": 0.6, "fenced": 0.6}])
def test_wrong_shares_are_refused(shares: dict[str, float]) -> None:
    with pytest.raises(BadSetting):
        checked_shares(shares)


def test_the_same_body_sent_again_gets_a_new_draw() -> None:
    provider = Provider(Settings(scenarios={"throttle": 0.5}), unix_now=0.0)

    fates = [fate(provider, arrival()) for _ in range(100)]

    assert {"throttle", NONE} == set(fates)
    assert 30 < fates.count("throttle") < 70


def test_a_scenario_is_chosen_by_header_or_marker_and_for_so_many_times() -> None:
    provider = Provider(Settings(scenarios={"500": 1.0}), unix_now=0.0)
    message: Json = {"role": "user", "content": "Hello [[scenario:503*2]]"}
    marker = arrival({"model": "gpt-5", "messages": [message]})

    assert [fate(provider, marker) for _ in range(3)] == ["503", "503", NONE]
    assert fate(provider, arrival(scenario="none")) == NONE
    assert fate(provider, arrival()) == "500"
    assert marked("nothing here") is None
    with pytest.raises(Turned):
        fate(provider, arrival(scenario="nonsense"))


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_error_has_all_four_keys(scenario: str) -> None:
    shape = error_of(scenario, model="gpt-5", retry_after_seconds=1)

    if shape is not None:
        assert set(json.loads(shape.body())["error"]) == {"message", "type", "param", "code"}
        assert shape.status >= 400


def test_what_a_call_takes_at_admission_is_a_setting() -> None:
    def charged(charge: Charge) -> int:
        return Provider(Settings(charge=charge), unix_now=0.0).charged_tokens(30, 100)

    assert (charged(Charge.SUM), charged(Charge.MAX), charged(Charge.PROMPT)) == (130, 100, 30)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (arrival(b"{"), 400),
        (arrival(b"[]"), 400),
        (arrival({"messages": []}), 400),
        (arrival({"model": "gpt-5", "messages": []}), 400),
        (arrival({"model": "gpt-3", "messages": [{}]}), 404),
    ],
)
def test_a_bad_request_is_turned_away(sent: Arrival, status: int) -> None:
    provider = Provider(Settings(), unix_now=0.0)

    with pytest.raises(Turned) as turned:
        fate(provider, sent)

    assert turned.value.shape.status == status


def test_the_meter_tells_what_was_billed_twice() -> None:
    meter, usage = Meter(started_at=100.0), Usage(input_tokens=5, output_tokens=2)
    for client_request_id, job_id in (("a", "j1"), ("a", "j1"), ("b", "j1"), ("c", "j2")):
        meter.accept(101.5)
        meter.charge(usage, 10, model="m", client_request_id=client_request_id, job_id=job_id, body=1)

    report = meter.report()

    assert report["billed_twice"] == {"client_request_ids": 1, "job_ids": 1, "bodies": 1}
    assert report["bill_nano_usd"] == 40
    assert report["admissions_per_second"] == [0, 4]
    assert meter.bills["a"].nano_usd == 20


def test_a_long_prefix_is_billed_as_cached_the_second_time() -> None:
    provider = Provider(Settings(), unix_now=0.0)

    def cached(question: str) -> int:
        messages: Json = [{"role": "system", "content": "x" * 8000}, {"role": "user", "content": question}]
        call = provider.read(arrival({"model": "gpt-5", "messages": messages}), "req_1")
        return provider.answer(call, provider.read_prompt(call)).usage.cached_input_tokens

    assert [cached("one"), cached("two"), cached("three")] == [0, 1024, 1024]


def test_an_answer_stays_within_the_tokens_that_were_allowed() -> None:
    prompt = prompt_of({**BODY, "max_completion_tokens": 5})

    answer = answer_to(prompt, scenario=NONE, seed=1)

    assert answer.usage.output_tokens <= 5
    assert answer.finish_reason == "stop"


def test_a_message_may_dictate_its_answer() -> None:
    prompt = prompt_of({"messages": [{"role": "user", "content": 'Now [[answer:{"a": 1}]]'}]})

    assert answer_to(prompt, scenario=NONE, seed=1).content == '{"a": 1}'
    assert answer_to(prompt, scenario="fenced", seed=1).content == '```json\n{"a": 1}\n```'


def test_like_texts_have_like_vectors() -> None:
    def likeness(one: str, other: str) -> float:
        return sum(a * b for a, b in zip(vector(one, 512), vector(other, 512), strict=True))

    assert likeness("the red car", "the red car") == pytest.approx(1)
    assert likeness("the red car stops", "the red car halts") > 0.5 > likeness("the red car", "a green boat")


def test_a_file_sets_models_and_refuses_what_it_does_not_know(tmp_path: Path) -> None:
    path = tmp_path / "provider.toml"
    path.write_text(
        'latency = "fixed:5"\n[models."tiny"]\nrequests_per_minute = 60\n'
        'price = { input = "1", cached_input = "0.1", output = "2" }\n'
    )
    assert from_file(path, Settings()).models["tiny"].requests_per_minute == 60

    path.write_text("request_per_minute = 5\n")
    with pytest.raises(BadSetting, match="request_per_minute"):
        from_file(path, Settings())
