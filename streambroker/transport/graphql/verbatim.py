"""JSON that passes through GraphQL byte for byte: variables are cut out of the request, never decoded and written anew.

GraphQL libraries take a request apart into the language's own values, which loses what JSON allows: numbers of any
size, the order and repetition of names, escapes. So a value for the scalar `JSON` stays the text that it was.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from graphql import (
    BooleanValueNode,
    EnumValueNode,
    FloatValueNode,
    GraphQLError,
    GraphQLInputObjectType,
    GraphQLInputType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLSchema,
    IntValueNode,
    ListValueNode,
    NullValueNode,
    ObjectValueNode,
    OperationDefinitionNode,
    StringValueNode,
    ValueNode,
    VariableNode,
    is_input_type,
    type_from_ast,
)
from msgspec import Raw

from streambroker.core.errors import Malformed
from streambroker.protocol.json import JsonDecoder, encode, too_deep

SCALAR = "JSON"
"""The scalar whose values are taken and given as they stand."""
_SPACE = " \t\n\r"
_plain = JsonDecoder[Any](Any)


def _not_json(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


# Numbers are only passed over: of what they stand for nothing is asked, so that none is too long.
_pass_over = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=_not_json).raw_decode


def decoded(body: bytes) -> str:
    """The text of a body or frame. Raises `Malformed`."""
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise Malformed(f"the body is not UTF-8: {error.reason} at byte {error.start}") from None


def members(text: str) -> dict[str, str]:
    """The members of the one JSON object that `text` is, each as it stands there; of equal names the last one counts.

    Raises `Malformed` where it is no JSON object, and `Invalid` where it nests beyond all measure.
    """
    try:
        return dict(_members(text))
    except (ValueError, IndexError) as error:
        raise Malformed(f"this is not the JSON object that is due here: {error}") from None
    except RecursionError:
        raise too_deep() from None


def _members(text: str) -> Iterator[tuple[str, str]]:
    """Raises `ValueError` or `IndexError`."""
    at = _skip(text, _expect(text, _skip(text, 0), "{"))
    while text[at] != "}":
        _expect(text, at, '"')
        name, at = _pass_over(text, at)
        begin = _skip(text, _expect(text, _skip(text, at), ":"))
        end = _pass_over(text, begin)[1]
        yield name, text[begin:end]
        at = _next(text, end, "}")
    if (end := _skip(text, at + 1)) != len(text):
        raise ValueError(f"something follows it at character {end}")


def items(text: str) -> Iterator[str]:
    """The items of a JSON array, each as it stands there. Raises `ValueError` or `IndexError`."""
    at = _skip(text, _expect(text, 0, "["))
    while text[at] != "]":
        end = _pass_over(text, at)[1]
        yield text[at:end]
        at = _next(text, end, "]")


def _next(text: str, at: int, closing: str) -> int:
    """Where the next item begins, or the closing bracket is."""
    at = _skip(text, at)
    if text[at] == closing:
        return at
    at = _skip(text, _expect(text, at, ","))
    if text[at] == closing:
        raise ValueError(f"nothing follows the comma before character {at}")
    return at


def _expect(text: str, at: int, what: str) -> int:
    if text[at] != what:
        raise ValueError(f"{what} is due at character {at}")
    return at + 1


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at] in _SPACE:
        at += 1
    return at


def variables(schema: GraphQLSchema, operation: OperationDefinitionNode, given: str | None) -> dict[str, Any]:
    """The values of an operation's variables, ready to be coerced: what is declared as `JSON` is `Raw`.

    Raises `Malformed` or `Invalid`. Those that the operation does not declare are left out.
    """
    found = {} if given is None else members(given)
    values = {}
    for definition in operation.variable_definitions or ():
        name = definition.variable.name.value
        type_ = type_from_ast(schema, definition.type)
        if name in found and is_input_type(type_):
            values[name] = _typed(found[name], type_)
    return values


def _typed(text: str, type_: GraphQLInputType) -> Any:
    """One JSON value as its type wants it: down to where that is `JSON`, and no further."""
    if isinstance(type_, GraphQLNonNull):
        return _typed(text, type_.of_type)
    if text == "null":
        return None
    if isinstance(type_, GraphQLList):
        if not text.startswith("["):
            return _typed(text, type_.of_type)
        return [_typed(item, type_.of_type) for item in items(text)]
    if isinstance(type_, GraphQLInputObjectType) and text.startswith("{"):
        known = type_.fields
        return {
            name: _typed(part, known[name].type) if name in known else _plain(part)
            for name, part in members(text).items()
        }
    if getattr(type_, "name", "") == SCALAR:
        return Raw(text.encode())
    return _plain(text)


def literal(node: ValueNode, values: Mapping[str, Any] | None = None) -> Raw:
    """The JSON that a value in the document stands for; numbers as they are written there. Raises `GraphQLError`."""
    return Raw(_written(node, values).encode())


def _written(node: ValueNode, values: Mapping[str, Any] | None) -> str:
    match node:
        case IntValueNode() | FloatValueNode():
            return node.value  # the grammar of numbers is JSON's
        case StringValueNode():
            return _encoded(node.value)
        case BooleanValueNode():
            return "true" if node.value else "false"
        case NullValueNode():
            return "null"
        case ListValueNode():
            return f"[{','.join(_written(item, values) for item in node.values)}]"
        case ObjectValueNode():
            written = (f'"{field.name.value}":{_written(field.value, values)}' for field in node.fields)
            return f"{{{','.join(written)}}}"
        case VariableNode():
            return _encoded(None if values is None else values.get(node.name.value))
        case EnumValueNode():
            raise GraphQLError(f"{node.value} is no JSON; strings have quotes", node)
        case _:
            raise GraphQLError("this is no JSON", node)


def _encoded(value: Any) -> str:
    return encode(value).decode()
