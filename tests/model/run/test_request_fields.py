"""The description of each request field: complete, without contradictions, and readable from an address."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.run.request import FIELDS, RunRequest
from model.run.request_fields import RequestField, Value
from tests.requests import other_value, values

# Fields without a description, each with the reason.
UNDESCRIBED = {
    "token_ids": "the tokens of another trace; no address has room for them, and --ids excludes --prompt",
    "capture": "each page records what it shows",
    "interventions": "a page of its own makes them, and model/cli/changes.py",
}
described = pytest.mark.parametrize("field", FIELDS.values(), ids=list(FIELDS))


def test_every_field_of_a_request_is_described_or_an_exception() -> None:
    assert {field.name for field in dataclasses.fields(RunRequest)} == {*FIELDS, *UNDESCRIBED}


def test_keys_and_options_are_unique_and_do_not_change() -> None:
    published = {
        "prompt": "--prompt", "new": "--new-tokens", "temp": "--temperature", "top_p": "--top-p", "top_k": "--top-k",
        "seed": "--seed", "chat": "--chat",
    }  # fmt: skip
    assert published.items() <= {field.key: field.option for field in FIELDS.values()}.items()
    assert len({field.key for field in FIELDS.values()}) == len({field.option for field in FIELDS.values()})


@described
def test_default_is_that_of_a_request(field: RequestField) -> None:
    assert getattr(RunRequest(token_ids=(1,)), field.name) == field.default


@described
def test_widget_of_a_number_has_values_of_its_type_within_its_limits(field: RequestField) -> None:
    if field.kind in (int, float):
        numbers = [field.low, field.step, field.default, *(n for n in (field.first, field.high) if n is not None)]
        assert {type(number) for number in numbers} == {field.kind}
        first = field.default if field.first is None else field.first
        assert field.low <= first <= (first if field.high is None else field.high)  # type: ignore[operator]


@given(st.sampled_from(list(FIELDS.values())).flatmap(lambda field: st.tuples(st.just(field), values(field))))
def test_an_address_keeps_every_value(pair: tuple[RequestField, Value]) -> None:
    field, value = pair
    kept = field.read(field.write(value))
    assert (kept, type(kept)) == (value, field.kind)
    assert field.read(value) == value  # as a widget holds it


def test_how_values_are_written() -> None:
    written = {"temperature": 0.7, "top_p": 1.0, "seed": 2**53 + 1, "chat": True, "prompt": "é &"}
    assert {name: FIELDS[name].write(value) for name, value in written.items()} == {
        "temperature": "0.7", "top_p": "1", "seed": "9007199254740993", "chat": "true", "prompt": "é &",
    }  # fmt: skip


@described
def test_text_that_is_not_a_number_is_refused(field: RequestField) -> None:
    if field.kind in (int, float):
        with pytest.raises(ValueError, match="many"):
            field.read("many")


@described
def test_a_request_from_before_the_field_existed_has_its_default(field: RequestField) -> None:
    request = RunRequest(**{"prompt": "a", field.name: other_value(field)})
    plain = request.to_json()
    assert plain[field.name] == other_value(field)
    if field.name != "prompt":  # in every request since the first
        del plain[field.name]
        assert RunRequest.from_json(plain) == dataclasses.replace(request, **{field.name: field.default})
