"""The answers to errors: one for each set of codes that share a status, with an example of each code."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from streambroker.core import errors
from streambroker.core.errors import BrokerError
from streambroker.transport.examples import DETAILS, REQUEST_ID
from streambroker.transport.openapi.headers import answer_headers

Schema = dict[str, Any]

KINDS = {
    kind.code: kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, BrokerError) and kind is not BrokerError and kind.__name__ not in
    # The server's own refusals of a request's form, which have the code of another kind.
    ("TargetTooLong", "HeadTooLarge")
}  # fmt: skip
"""The errors that operations answer, by their codes."""
ANYWHERE = (errors.MethodNotAllowed, errors.RequestTimeout, errors.TargetTooLong, errors.HeadTooLarge)
"""What may be answered to any request before an operation is found for it."""
_PROBLEM = "#/components/schemas/Problem"
_RETRY_AFTER_MS = 2_000


class Problems:
    """The answers to errors, each described once, by the names of their kinds: `responses`, and `schemas` of them."""

    def __init__(self) -> None:
        self.responses: Schema = {}
        self.schemas: Schema = {}
        for kind in ANYWHERE:
            self._reference(kind.status, [kind])

    def of(self, codes: Iterable[str]) -> Schema:
        """References to the answers with these codes, by status."""
        by_status: dict[int, list[type[BrokerError]]] = {}
        for code in dict.fromkeys(codes):
            by_status.setdefault(KINDS[code].status, []).append(KINDS[code])
        return {str(status): self._reference(status, kinds) for status, kinds in sorted(by_status.items())}

    def _reference(self, status: int, kinds: Sequence[type[BrokerError]]) -> Schema:
        kinds = sorted(kinds, key=lambda kind: kind.__name__)
        name = "Or".join(kind.__name__ for kind in kinds)
        # A schema with a name, and statuses as lists of one: generators of clients make little sense of others.
        self.schemas.setdefault(f"{name}Problem", _schema(status, kinds))
        self.responses.setdefault(name, _answer(f"{name}Problem", status, kinds))
        return {"$ref": f"#/components/responses/{name}"}


def _schema(status: int, kinds: Sequence[type[BrokerError]]) -> Schema:
    told = {
        "status": {"type": "integer", "enum": [status]},
        "code": {"type": "string", "enum": [kind.code for kind in kinds]},
    }
    return {"allOf": [{"$ref": _PROBLEM}, {"type": "object", "properties": told}]}


def _answer(schema: str, status: int, kinds: Sequence[type[BrokerError]]) -> Schema:
    return {
        "description": "\n".join(f"- `{kind.code}`: {prose(kind.__doc__ or '')}" for kind in kinds),
        "headers": answer_headers(status),
        "content": {
            "application/problem+json": {
                "schema": {"$ref": f"#/components/schemas/{schema}"},
                "examples": {
                    kind.code: {"summary": prose(kind.__doc__ or ""), "value": example(kind)} for kind in kinds
                },
            }
        },
    }


def example(kind: type[BrokerError]) -> Any:
    """What an error of that kind looks like on the wire."""
    detail, faults = DETAILS.get(kind.__name__, (prose(kind.__doc__ or kind.code), ()))
    if issubclass(kind, errors.MethodNotAllowed):
        error: BrokerError = kind(detail, "GET, HEAD")
    else:
        error = kind(detail, errors=[errors.FieldError(*fault) for fault in faults])
    if error.retryable and error.status != errors.Internal.status:
        error.retry_after_ms = _RETRY_AFTER_MS
    return msgspec.to_builtins(errors.problem(error, f"urn:streambroker:request:{REQUEST_ID}"))


def prose(text: str) -> str:
    """A docstring as one paragraph of Markdown."""
    return re.sub(r"\s*\n\s*", " ", text.strip()).replace("``", "`")
