"""An example of a value, made from its schema and from what its members are called."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Schema = dict[str, Any]

_TIME = "2026-11-22T10:13:00.123Z"
_KINDS: Mapping[str, type | tuple[type, ...]] = {
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "array": list,
    "object": dict,
    "null": type(None),
}
_DEEPEST = 12


def sample(schema: Schema, components: Mapping[str, Schema], known: Mapping[str, Any], name: str = "") -> Any:
    """A value that fits `schema`: of each object the members that must be there.

    `known` are values by the names of members; one is taken where its kind fits.
    """
    return _Sampler(components, known).value(schema, name, 0)


class _Sampler:
    def __init__(self, components: Mapping[str, Schema], known: Mapping[str, Any]) -> None:
        self._components = components
        self._known = known

    def value(self, schema: Schema, name: str, depth: int) -> Any:
        """Deterministic: the same for the same schema."""
        schema = self._resolved(schema)
        if name in self._known and self._fits(self._known[name], schema):
            return self._known[name]
        for word in ("example", "const"):
            if word in schema:
                return schema[word]
        if found := schema.get("examples"):
            return found[0]
        if found := schema.get("enum"):
            return found[0]
        if options := schema.get("anyOf") or schema.get("oneOf"):
            options = [self._resolved(option) for option in options]
            given = [option for option in options if option.get("type") != "null"]
            return self.value((given or options)[0], name, depth)
        return self._of_kind(schema, depth)

    def _of_kind(self, schema: Schema, depth: int) -> Any:
        kind = schema.get("type")
        if isinstance(kind, list):
            kind = kind[0]
        match kind:
            case "object":
                return self._object(schema, depth)
            case "array":
                items = schema.get("items")
                return [self.value(items, "", depth + 1)] if isinstance(items, dict) and depth < _DEEPEST else []
            case "integer" | "number":
                return schema.get("default", schema.get("minimum", 1)) or 0
            case "boolean":
                return schema.get("default", False)
            case "string":
                return _TIME if schema.get("format") == "date-time" else schema.get("default", "text")
            case _:
                return None

    def _object(self, schema: Schema, depth: int) -> Any:
        properties: Schema = schema.get("properties", {})
        required = schema.get("required", ())
        made = {name: self.value(properties[name], name, depth + 1) for name in properties if name in required}
        more = schema.get("additionalProperties")
        if not properties and isinstance(more, dict) and depth < _DEEPEST:
            made["name"] = self.value(more, "", depth + 1)
        return made

    def _resolved(self, schema: Schema) -> Schema:
        while "$ref" in schema:
            schema = self._components[schema["$ref"].rsplit("/", 1)[1]]
        return schema

    def _fits(self, value: Any, schema: Schema) -> bool:
        """Whether it is of the right kind; not whether each bound is kept, which a test looks at."""
        if options := schema.get("anyOf") or schema.get("oneOf"):
            return any(self._fits(value, self._resolved(option)) for option in options)
        if "enum" in schema:
            return value in schema["enum"]
        if "const" in schema:
            return bool(value == schema["const"])
        kinds = schema.get("type")
        if kinds is None:
            return True
        if isinstance(value, bool):
            return bool(kinds == "boolean")
        return any(isinstance(value, _KINDS[kind]) for kind in ([kinds] if isinstance(kinds, str) else kinds))
