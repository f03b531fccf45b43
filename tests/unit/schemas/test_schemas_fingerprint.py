"""One cause, one fingerprint: whatever the values were; and no value in the words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.contract.validation import CompiledSchema
from providers.contract.work import Size, Work
from schemas.fingerprint import cause_of
from schemas.jsons import JsonObject

SCHEMA: JsonObject = {
    "type": "object",
    "required": ["price"],
    "additionalProperties": False,
    "properties": {
        "price": {"type": "number", "minimum": 3},
        "unit price": {"type": ["number", "null"]},
        "colour": {"enum": ["red", "blue"]},
        "day": {"type": "string", "format": "date", "minLength": 2},
        "lines": {"type": "array", "minItems": 1, "items": {"type": "object", "required": ["sku"]}},
        "prices": {"type": "object", "additionalProperties": {"type": "number"}},
    },
}
COMPILED = CompiledSchema(SCHEMA)
SIZE = Size(characters=500, values=10, openings=5)


def words(**changes: object) -> str:
    complaint = COMPILED.complaint({"price": 5} | changes, SIZE, Work())
    assert complaint is not None
    return cause_of("invalid_output", complaint).words


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"price": "12 EUR"}, "price: a string where a number belongs"),
        ({"price": "a: b; 'c' is not of type 'object'"}, "price: a string where a number belongs"),
        ({"price": "x" * 500}, "price: a string where a number belongs"),
        ({"price": None}, "price: null where a number belongs"),
        ({"price": [1, {"a: x": 2}]}, "price: an array where a number belongs"),
        ({"price": 1}, "price: less than its minimum"),
        ({"unit price": "it's"}, "unit price: a string where a number or null belongs"),
        ({"colour": "green"}, "colour: none of the allowed values"),
        ({"day": "tomorrow"}, "day: not in the format date"),
        ({"lines": []}, "lines: too short"),
        ({"lines": [{"sku": 1}, {}]}, "lines[]: the property 'sku' is missing"),
        ({"prices": {"SKU-12345": "9"}}, "prices.*: a string where a number belongs"),
        ({"shade": "dark"}, "properties that the contract does not have"),
    ],
)
def test_a_complaint_becomes_the_words_of_its_cause(changes: dict[str, object], said: str) -> None:
    assert words(**changes) == said


@given(st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\0"), max_size=400))
def test_whatever_the_text_was_the_cause_is_one_and_holds_none_of_it(text: str) -> None:
    complaint = COMPILED.complaint({"price": text}, SIZE, Work())

    assert cause_of("invalid_output", complaint).words == "price: a string where a number belongs"


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("Limit 30000, Used 29871 in org-aB12. Visit https://x.test/y1", "Limit … Used … in … Visit …"),
        ("The model `gpt-9` does not exist", "The model … does not exist"),
        (
            "Invalid type for 'messages[0].content': expected a string",
            "Invalid type for messages[].content: expected a string",
        ),
        ("Don't do it, can't be done: request req_9f81 failed", "Don't do it, can't be done: request … failed"),
    ],
)
def test_a_providers_sentence_loses_its_numbers_ids_and_quotations(message: str, said: str) -> None:
    assert cause_of("bad_request", message).words == said


def test_what_a_model_said_when_it_refused_is_no_cause() -> None:
    first, second = cause_of("refused", "I cannot help with Ann"), cause_of("refused", "Sorry, no poems on Bob.")

    assert first == second
    assert first.words == "the model refused"
    assert cause_of("refused", "A content filter cut the reply.") != first


def test_a_fingerprint_tells_its_reason_and_is_different_for_another() -> None:
    one, other = cause_of("invalid_output", "it broke"), cause_of("contract_violation", "it broke")

    assert one.fingerprint.startswith("invalid_output.")
    assert one.fingerprint != other.fingerprint
    assert cause_of("poison", None).words == "poison"
