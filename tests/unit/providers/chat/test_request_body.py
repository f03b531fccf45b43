"""The closed list of edits: everything else of a body travels as it came."""

from typing import Any

import pytest

from config.catalogue import Catalogue, ModelTable, ProviderTable
from providers.account.accounts import base_url_of
from providers.chat.request_body import asks_for_usage, final_body, streaming, without_streaming
from providers.routing import Routes
from schemas.contract import OutputContract
from schemas.errors import InvalidSetting, UnknownModel
from schemas.ids import JobId
from schemas.job import Target
from schemas.jsons import JsonObject

BODY = {"model": "small", "messages": [{"role": "user", "content": "hi"}]}
CONTRACT = OutputContract(schema={"type": "object"})


def sent(contract: OutputContract | None = None, lookup_as: str | None = None, **more: Any) -> JsonObject:  # noqa: ANN401 - JSON
    return final_body(
        {**BODY, **more},
        model="gpt",
        default_max_output_tokens=100,
        contract=contract,
        lookup_as=None if lookup_as is None else JobId(lookup_as),
    )


def test_the_alias_becomes_the_model_and_an_output_limit_is_set() -> None:
    assert sent() == {**BODY, "model": "gpt", "max_completion_tokens": 100}


@pytest.mark.parametrize("limit", [{"max_completion_tokens": 5}, {"max_tokens": 5}])
def test_a_given_output_limit_is_kept(limit: JsonObject) -> None:
    assert sent(**limit) == {**BODY, "model": "gpt", **limit}


def test_fields_that_nobody_here_knows_travel() -> None:
    more: JsonObject = {
        "verbosity": "low",
        "service_tier": "flex",
        "brand_new": {"a": [1]},
        "user": "u",
        "store": False,
    }

    assert sent(**more).items() >= more.items()


def test_the_contract_becomes_a_response_format() -> None:
    assert sent(CONTRACT)["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": {"type": "object"}, "strict": False},
    }


def test_a_given_response_format_is_kept() -> None:
    assert sent(CONTRACT, response_format={"type": "json_object"})["response_format"] == {"type": "json_object"}


def test_a_job_that_can_be_looked_up_is_stored_under_its_id() -> None:
    found = sent(lookup_as="job_1", metadata={"team": "a"})

    assert found["store"] is True
    assert found["metadata"] == {"team": "a", "job_id": "job_1"}


def test_metadata_that_is_full_is_left_alone() -> None:
    full = {str(number): "x" for number in range(16)}

    assert sent(lookup_as="job_1", metadata=full)["metadata"] == full


def test_metadata_is_left_out_where_nothing_is_stored() -> None:
    assert "metadata" not in sent(metadata={"team": "a"})
    assert sent(metadata={"team": "a"}, store=True)["metadata"] == {"team": "a"}


def test_the_callers_body_is_not_touched() -> None:
    body = {**BODY, "metadata": {"team": "a"}}

    final_body(body, model="gpt", default_max_output_tokens=1, contract=CONTRACT, lookup_as=JobId("j"))

    assert body == {**BODY, "metadata": {"team": "a"}}


def test_a_stream_asks_for_its_usage_and_keeps_other_options() -> None:
    streamed = streaming({**BODY, "stream_options": {"include_obfuscation": False}})

    assert streamed["stream"] is True
    assert streamed["stream_options"] == {"include_obfuscation": False, "include_usage": True}
    assert not asks_for_usage(BODY)
    assert without_streaming(streamed) == BODY


CATALOGUE = Catalogue(
    providers={"a": ProviderTable(), "b": ProviderTable()},
    models={"m": ModelTable(provider="a"), "n": ModelTable(provider="b")},
    aliases={"small": ("m", "n")},
)


def test_an_alias_leads_to_its_chain_and_a_model_to_itself() -> None:
    routes = Routes(CATALOGUE)

    assert routes.chain("small") == (Target(account="a", model="m"), Target(account="b", model="n"))
    assert routes.chain("n") == (Target(account="b", model="n"),)


def test_an_unknown_model_is_refused_by_naming_what_there_is() -> None:
    with pytest.raises(UnknownModel, match=r"'large'.*there are: m, n, small"):
        Routes(CATALOGUE).chain("large")


@pytest.mark.parametrize(
    ("name", "base_url", "expected"),
    [
        ("openai", None, "http://env/v1"),
        ("openai", "http://table/v1", "http://table/v1"),
        ("other", None, "https://api.openai.com/v1"),
    ],
)
def test_the_environments_address_is_the_default_providers_only(name: str, base_url: str | None, expected: str) -> None:
    assert base_url_of(name, ProviderTable(base_url=base_url), {"OPENAI_BASE_URL": "http://env/v1"}) == expected


@pytest.mark.parametrize("url", ["ftp://host/v1", "host/v1", "http://"])
def test_an_address_that_is_none_refuses_to_start(url: str) -> None:
    with pytest.raises(InvalidSetting, match="base_url"):
        base_url_of("openai", ProviderTable(base_url=url), {})
