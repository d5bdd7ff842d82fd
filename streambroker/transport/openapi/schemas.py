"""JSON Schemas of the types that validate what comes in and make what goes out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec

from streambroker.protocol.messages import DraftIn
from streambroker.transport.examples import ANSWERS, BODIES
from streambroker.transport.schemas import PublishIn

Schema = dict[str, Any]

COMPONENT = "#/components/schemas/{name}"
_ANY_JSON = {"description": "Any JSON value, kept byte for byte."}
# What a publish checks beyond its members, one by one. In the negative, for of a "oneOf" generators of clients make a
# type without members.
_ONE_CONTENT: Schema = {
    "not": {
        "anyOf": [
            {"required": ["content", "content_base64"]},
            {"not": {"anyOf": [{"required": ["content"]}, {"required": ["content_base64"]}]}},
            {
                "required": ["delay_ms", "available_at"],
                "properties": {"delay_ms": {"type": "integer"}, "available_at": {"type": "string"}},
            },
        ]
    },
}
# Python needs it after "$", which lets a trailing newline through there; in JSON Schema's expressions "$" is the end.
_PYTHON_ONLY = r"(?!\n)"
_is_time = re.compile(r"(?:.+_)?at").fullmatch


class Schemas(NamedTuple):
    """The schema of each type, and the components that they refer to, by name."""

    by_type: dict[str, Schema]
    components: dict[str, Schema]

    def of(self, type_: Any) -> Schema:
        """The schema of one of the types."""
        return self.by_type[repr(type_)]


def schemas_of(types: Iterable[Any]) -> Schemas:
    """The schemas of `types`, with their examples."""
    asked = list(types)
    found, components = msgspec.json.schema_components(asked, schema_hook=_hook, ref_template=COMPONENT)
    for type_ in asked:
        example = _example(type_)
        if example is not None and type_.__name__ in components:
            components[type_.__name__]["examples"] = [example]
    for type_ in (DraftIn, PublishIn):
        if type_ in asked:
            components[type_.__name__] |= _ONE_CONTENT
    for type_ in asked:
        if (name := getattr(type_, "__name__", "")) in components:
            components[name] |= getattr(type_, "BEYOND", {})
    by_type = {repr(type_): schema for type_, schema in zip(asked, found, strict=True)}
    _refine([by_type, components])
    return Schemas(by_type, components)


def members_of(type_: type[msgspec.Struct]) -> tuple[dict[str, Schema], Sequence[str]]:
    """The schemas of a struct's members, and which of them must be given: for what is no component, a query."""
    _, components = msgspec.json.schema_components([type_], schema_hook=_hook, ref_template=COMPONENT)
    schema = components[type_.__name__]
    _refine(schema)
    return schema["properties"], schema.get("required", ())


def _example(type_: Any) -> Any:
    if not isinstance(type_, type):
        return None
    return BODIES.get(type_, ANSWERS.get(type_))


def _refine(node: Any) -> None:
    """Say in JSON Schema's own words what the types say in Python's."""
    if isinstance(node, dict):
        if isinstance(pattern := node.get("pattern"), str):
            node["pattern"] = pattern.removesuffix(_PYTHON_ONLY)
        if isinstance(properties := node.get("properties"), dict):
            _refine_times(properties)
        for part in node.values():
            _refine(part)
    elif isinstance(node, list):
        for part in node:
            _refine(part)


def _refine_times(properties: Schema) -> None:
    for name, part in properties.items():
        if _is_time(name):
            for option in (part, *part.get("anyOf", ())):
                if option.get("type") == "string":
                    option["format"] = "date-time"


def _hook(type_: Any) -> dict[str, Any]:
    if type_ is msgspec.Raw:
        return dict(_ANY_JSON)
    raise NotImplementedError(type_)
