"""Values that no field takes, one table per kind of object; the REST and the WebSocket suites run the same rows.

A row is ``(fields, pointer)``: these fields laid over a good object make it bad, and this is the pointer that says so.
``MISSING`` as a value takes the field away. An empty pointer: any pointer, the row's field must be named somewhere.
"""

from __future__ import annotations

from typing import Any

MISSING = object()
HUGE = 10**30

Row = tuple[dict[str, Any], str]

NOT_A_WHOLE_NUMBER: list[Any] = ["5", 1.5, True, [], {}, HUGE]
NOT_A_TEXT: list[Any] = [5, True, [], {}]
UNSTORABLE_TEXT = ["nul\u0000inside", "lone\ud800surrogate", "\udfff"]
BAD_NAMES = ["", "-a", ".a", "_a", "a b", "a/b", "é", "a" * 129, "a\n", "a\u0000", "\u202ea", "../x", "<img>"]
# What can stand in a path of its own (an empty name or dots make another path of it).
BAD_NAMES_IN_A_PATH = [name for name in BAD_NAMES if name and "/" not in name]


def _each(field: str, values: list[Any], pointer: str | None = None) -> list[Row]:
    return [({field: value}, f"/{field}" if pointer is None else pointer) for value in values]


def count(field: str, *more: Any) -> list[Row]:
    """Rows for a whole number that may not be negative; ``more`` values are out of its range."""
    return _each(field, [-1, *NOT_A_WHOLE_NUMBER, *more])


def text(field: str, *more: Any) -> list[Row]:
    return _each(field, [*NOT_A_TEXT, *more])


def name(field: str) -> list[Row]:
    return _each(field, [*NOT_A_TEXT, *BAD_NAMES])


DRAFT: list[Row] = [
    ({"content": MISSING}, ""),
    *count("priority", 10),
    *count("delay_ms"),
    *count("ttl_ms"),
    *count("max_attempts"),
    *_each("available_at", [5, "tomorrow", "", "2026-13-01T00:00:00.000Z", "9999-12-31T23:59:59-23:59", True, []]),
    ({"delay_ms": 5, "available_at": "2099-01-01T00:00:00.000Z"}, ""),
    *_each("headers", [5, "a: b", ["a"], True]),
    *_each("headers", [{"k": t} for t in UNSTORABLE_TEXT] + [{t: "v"} for t in UNSTORABLE_TEXT], ""),
    *text("key", *UNSTORABLE_TEXT),
    *text("dedup_id", *UNSTORABLE_TEXT),
    *text("correlation_id", *UNSTORABLE_TEXT),
    *text("reply_to", *UNSTORABLE_TEXT),
    ({"contents": 1}, "/contents"),
]

CONFIG: list[Row] = [
    *count("lease_ms"),
    *count("max_attempts"),
    *count("message_ttl_ms"),
    *count("max_messages"),
    *count("retention_ms"),
    *count("dedup_window_ms"),
    *_each("backoff", [5, "exponential", [], True]),
    ({"backoff": {"kind": "sideways"}}, "/backoff/kind"),
    ({"backoff": {"kind": "exponential", "base_ms": -1}}, "/backoff/base_ms"),
    ({"backoff": {"kind": "exponential", "base_ms": "1"}}, "/backoff/base_ms"),
    ({"backoff": {"kind": "exponential", "max_ms": -1}}, "/backoff/max_ms"),
    ({"backoff": {"kind": "exponential", "max_ms": HUGE}}, "/backoff/max_ms"),
    ({"backoff": {"kind": "exponential", "factor": "2"}}, "/backoff/factor"),
    ({"backoff": {"kind": "exponential", "factor": -2}}, "/backoff/factor"),
    ({"backoff": {"kind": "exponential", "jitter": "yes"}}, "/backoff/jitter"),
    ({"backoff": {"kind": "exponential", "speed": 1}}, "/backoff/speed"),
    *_each("dead_letter_queue", [5, True, [], "", "not a name", "a" * 129]),
    *_each("overflow", [5, "drop", "REJECT", True]),
    *_each("durability", [5, "disk", "FSYNC", True]),
    ({"colour": "red"}, "/colour"),
]

CREDENTIALS: list[Row] = [
    *[({"username": value}, "/username") for value in NOT_A_TEXT],
    *[({"password": value}, "/password") for value in NOT_A_TEXT],
    ({"username": MISSING}, ""),
    ({"password": MISSING}, ""),
    ({"remember": True}, "/remember"),
]

CONSUME: list[Row] = [*count("max", 0, 1001), *count("wait_ms", 60_001), *count("lease_ms"), ({"queue": "q"}, "/queue")]

ACK: list[Row] = [*text("lease"), ({"leases": "x"}, "/leases")]
NACK: list[Row] = [
    *text("lease"),
    *_each("requeue", [5, "yes", [], {}]),
    *count("delay_ms"),
    *text("reason"),
    ({"requeued": True}, "/requeued"),
]
EXTEND: list[Row] = [({"lease_ms": MISSING}, ""), *count("lease_ms"), *text("lease"), ({"by": 5}, "/by")]


def laid_over(good: dict[str, Any], fields: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in {**good, **fields}.items() if value is not MISSING}


def row_id(row: Any) -> str:
    """A readable test id: ``priority=-1``."""
    fields = row[0] if isinstance(row, tuple) else row
    if not isinstance(fields, dict):
        return str(row)
    shown = (f"{k}={'MISSING' if v is MISSING else ascii(v)[:40]}" for k, v in fields.items())
    return ",".join(shown)
