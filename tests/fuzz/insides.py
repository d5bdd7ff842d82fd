"""What no answer of the broker may tell of its insides: a stack, SQL, a path, what it is made of (D33)."""

from __future__ import annotations

import re
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]
_INSIDES = re.compile(
    r"Traceback|\bFile \"|\bline \d+, in |\w+\.py\b|site-packages|object at 0x|\b\w+Error\b"
    r"|sqlite|sqlalchemy|msgspec|uvicorn|starlette|asyncio"
    r"|\bSELECT\b.+\bFROM\b|INSERT INTO|UPDATE \w+ SET|DELETE FROM|PRAGMA|UNIQUE constraint"
    rf"|/(?:home|root|tmp|usr|var)/|{re.escape(str(_ROOT))}",
    re.IGNORECASE | re.DOTALL,
)


def check_text(answer: str, asked: str) -> None:
    """Assert that the text of an answer tells none of it, but for what it echoes of what was `asked`."""
    found = [hit[0] for hit in _INSIDES.finditer(answer) if hit[0] not in asked]
    assert found == [], answer
