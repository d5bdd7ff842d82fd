"""What a consumer wants: messages as the broker shows them, or as events."""

from __future__ import annotations

from typing import Literal

from streambroker.transport.cloudevents.reading import BATCH, STRUCTURED
from streambroker.transport.http import Call

Format = Literal["json", "cloudevents", "cloudevents-binary"]


def format_of(call: Call, asked: Format | None) -> Format:
    """What one message is answered as: what the query says, else what `Accept` prefers."""
    if asked is not None:
        return asked
    return "cloudevents" if _prefers(call, STRUCTURED) else "json"


def wants_batch(call: Call) -> bool:
    """Whether many messages are answered as a batch of events."""
    return _prefers(call, BATCH)


def _prefers(call: Call, media_type: str) -> bool:
    """Whether `Accept` names that type, and ``application/json`` not before it (RFC 9110, section 12.5.1)."""
    accept = call.headers.get(b"accept")
    if accept is None or b"cloudevents" not in (accept := accept.lower()):
        return False
    weights: dict[str, float] = {}
    for part in accept.decode("latin-1").split(","):
        name, *parameters = (item.strip() for item in part.split(";"))
        weights[name] = next((_weight(p[2:]) for p in parameters if p.startswith("q=")), 1.0)
    wanted = weights.get(media_type, 0.0)
    return wanted > 0 and wanted >= weights.get("application/json", 0.0)


def _weight(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 1.0
