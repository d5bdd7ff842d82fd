"""JSON that is cut out of requests and never written anew."""

from __future__ import annotations

import json
from typing import Any

import pytest
from graphql import OperationDefinitionNode, parse, parse_value
from hypothesis import given
from hypothesis import strategies as st

from streambroker.core.errors import BrokerError, Invalid, Malformed
from streambroker.transport.graphql.schema import SCHEMA
from streambroker.transport.graphql.verbatim import items, literal, members, variables

_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.text(), _json), st.booleans(), st.sampled_from([None, 1, "\t"]))
def test_members_are_cut_out_as_they_stand(value: dict[str, Any], ascii_only: bool, indent: int | str | None) -> None:
    text = f" \n{json.dumps(value, ensure_ascii=ascii_only, indent=indent)}\r\n"
    found = members(text)
    assert {name: json.loads(part) for name, part in found.items()} == value
    assert all(part in text for part in found.values())


@given(st.lists(_json), st.sampled_from([None, 2]))
def test_items_are_cut_out_as_they_stand(value: list[Any], indent: int | None) -> None:
    text = json.dumps(value, indent=indent)
    assert [json.loads(part) for part in items(text)] == value


NO_OBJECT = """
{|[|[]|"a"|{"a"|{"a":|{"a":1|{"a":1,|{"a":1,}|{,}|{"a" 1}|{"a":1 "b":2}|{a:1}|{"a":NaN}|{"a":-Infinity}|{"a":01}|
{"a":1}x|{"a":1}{}|{'a':1}|null|1|{"a":tru}|{"a":"\t"}|{"a":"\\x"}
"""


@pytest.mark.parametrize("text", ["", *NO_OBJECT.strip().replace("|\n", "|").split("|")])
def test_what_is_no_json_object_is_refused(text: str) -> None:
    with pytest.raises(Malformed):
        members(text)


def test_the_last_of_equal_names_counts() -> None:
    assert members('{"a":1,"a":2}') == {"a": "2"}


def test_what_nests_beyond_all_measure_is_refused_and_does_not_end_the_process() -> None:
    with pytest.raises(Invalid):
        members('{"a":' + "[" * 200_000 + "]" * 200_000 + "}")


def test_any_garbage_is_refused_with_an_error_of_ours() -> None:
    whole = '{"a":[1,{"b":"\\u00e9"}],"c":null}'
    for end in range(len(whole)):
        with pytest.raises(BrokerError):
            members(whole[:end])


@pytest.mark.parametrize(
    "text",
    [
        *(
            "12345678901234567890123",
            "-0",
            "1e400",
            "1.50",
            '{"a":1,"a":2}',
            '"\\ud800"',
            "[ 1 ,\t2 ]",
            '{"z":1,"a":[ ]}',
        ),
        *("[" * 900 + "]" * 900, '"\\u0041"', "true"),
    ],
)
def test_a_variable_of_json_is_the_text_that_was_sent(text: str) -> None:
    operation = _operation('mutation($c: JSON){publish(queue: "q", content: $c){messageId}}')
    assert bytes(variables(SCHEMA, operation, f'{{"c": {text} }}')["c"]).decode() == text


def test_json_inside_of_input_objects_and_lists_is_the_text_that_was_sent() -> None:
    operation = _operation('mutation($m: [MessageInput!]!){publishBatch(queue: "q", messages: $m){messageIds}}')
    given_ = '{"m":[{"content":1e400,"priority":3},{"content":[-0 ],"headers":{"n":1.0}}]}'
    first, second = variables(SCHEMA, operation, given_)["m"]
    assert (bytes(first["content"]), first["priority"]) == (b"1e400", 3)
    assert (bytes(second["content"]), bytes(second["headers"])) == (b"[-0 ]", b'{"n":1.0}')


def test_variables_that_are_not_declared_are_left_out() -> None:
    operation = _operation("query($limit: Int!){queues(limit: $limit){nextCursor}}")
    assert variables(SCHEMA, operation, '{"limit":5,"more":[1]}') == {"limit": 5}
    assert variables(SCHEMA, operation, None) == {}


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("12345678901234567890123", "12345678901234567890123"),
        ("1.50", "1.50"),
        ("-0", "-0"),
        ('"a\\n\\u00e9"', '"a\\né"'),
        ('"""block"""', '"block"'),
        ("{b: 1, a: [true, null, {}]}", '{"b":1,"a":[true,null,{}]}'),
    ],
)
def test_a_value_in_the_document_is_the_json_that_it_looks_like(written: str, expected: str) -> None:
    assert bytes(literal(parse_value(written))).decode() == expected


def _operation(text: str) -> OperationDefinitionNode:
    (operation,) = parse(text).definitions
    assert isinstance(operation, OperationDefinitionNode)
    return operation
