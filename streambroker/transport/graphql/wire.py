"""A GraphQL request and its answer, as JSON (GraphQL over HTTP, sections 5 and 6)."""

from __future__ import annotations

import re
from typing import Any

import msgspec
from graphql import GraphQLError, GraphQLSyntaxError

from streambroker.core.errors import BrokerError, Internal, Invalid, Malformed, invalid, problem
from streambroker.protocol.json import JsonDecoder
from streambroker.transport.graphql.verbatim import members

_MEMBERS = frozenset({"query", "operationName", "variables", "extensions"})
_text = JsonDecoder[str](str)
_word_begins = re.compile(r"_([a-z])")


class Envelope(msgspec.Struct, frozen=True):
    """A request, taken apart; `variables` is the text of a JSON object."""

    query: str
    operation: str | None
    variables: str | None


def envelope(text: str) -> Envelope:
    """The request that a body or a frame's payload is.

    Raises `Malformed` where it is no such request, `Invalid` for a member that there is not, or JSON that is too deep.
    """
    if text.lstrip(" \t\r\n")[:1] == "[":
        raise Malformed("batches are not taken; send one request at a time")
    given = members(text)
    if "query" not in given:
        raise Malformed("the member `query` is missing")
    if unknown := sorted(given.keys() - _MEMBERS):
        raise invalid(f"/{unknown[0]}", f"Object contains unknown field `{unknown[0]}`")
    query = _string(given["query"], "query")
    name = given.get("operationName", "null")
    operation = None if name == "null" else _string(name, "operationName")
    _map(given, "extensions")
    return Envelope(query, operation, _map(given, "variables"))


def _string(text: str, name: str) -> str:
    try:
        return _text(text)
    except Invalid:
        raise Malformed(f"the member `{name}` must be a string") from None


def _map(given: dict[str, str], name: str) -> str | None:
    text = given.get(name, "null")
    if text == "null":
        return None
    if not text.startswith("{"):
        raise Malformed(f"the member `{name}` must be an object")
    return text


def shown(error: GraphQLError, instance: str) -> dict[str, Any]:
    """An error of an answer, with its place in the document and in the data.

    What the broker refused carries its problem document as `extensions`; of a fault of the broker's own nothing is
    told but that there was one.
    """
    fault = cause_of(error)
    if fault is None:
        fault = (Malformed if isinstance(error, GraphQLSyntaxError) else Invalid)(error.message)
    elif not isinstance(fault, BrokerError):
        fault = Internal("the broker failed at this; its log says why, under this request's id")
    return {**error.formatted, **refused(fault, instance)}


def refused(error: BrokerError, instance: str) -> dict[str, Any]:
    """An error that has no place in a document; `extensions` are its problem document (RFC 9457)."""
    document: dict[str, Any] = msgspec.to_builtins(problem(error, instance))
    message = document.pop("detail")
    for fault in document.get("errors", ()):
        told = fault["pointer"]
        fault["pointer"] = _camel(told)
        if told and message.startswith(told):
            message = fault["pointer"] + message.removeprefix(told)
    return {"message": message, "extensions": document}


def cause_of(error: GraphQLError) -> Exception | None:
    """What was raised behind an error; None where GraphQL itself found it."""
    fault: Exception | None = error
    while isinstance(fault, GraphQLError):
        fault = fault.original_error
    return fault


def _camel(pointer: str) -> str:
    """A pointer into the body of the REST call as one into GraphQL's members; names of headers are the client's."""
    ours, headers, theirs = pointer.partition("/headers/")
    return _word_begins.sub(lambda found: found[1].upper(), ours) + headers + theirs
