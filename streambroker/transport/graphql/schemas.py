"""What `POST /graphql` takes and answers (GraphQL over HTTP, draft of 2025, sections 5 and 6)."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

RESPONSE = "application/graphql-response+json"


class GraphQLIn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A document, which of its operations to execute, and the values of its variables. `extensions` are ignored."""

    query: str
    operationName: str | None = None
    variables: dict[str, Any] | None = None
    extensions: dict[str, Any] | None = None


class GraphQLOut(msgspec.Struct):
    """`data` is absent where nothing was executed, `errors` where there are none."""

    data: dict[str, Any] | UnsetType | None = UNSET
    errors: list[dict[str, Any]] | UnsetType = UNSET
