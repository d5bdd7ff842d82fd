"""The text that Prometheus reads (text exposition format 0.0.4).

The client library's own writer takes about three times as long for each line, and a broker with 200 labelled queues has
5,000 of them. Families, collectors and the registry are the library's.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from functools import lru_cache

from prometheus_client.metrics_core import Metric

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SUFFIX = {"counter": "_total", "info": "_info"}
_TYPE = {"info": "gauge", "unknown": "untyped"}
_LINES_AT_A_TIME = 500
_BREATH_S = 0.0001


def text(families: Iterable[Metric]) -> bytes:
    """All samples, each family under its help and type. For a thread of its own: it lets the others run in between."""
    lines: list[str] = []
    breath = _LINES_AT_A_TIME
    for family in families:
        lines += _lines(family)
        if len(lines) > breath:
            # A thread that computes keeps the interpreter's lock for 5 ms at a time, unless it waits: the event loop
            # would have to.
            time.sleep(_BREATH_S)
            breath = len(lines) + _LINES_AT_A_TIME
    return "".join(lines).encode()


def _lines(family: Metric) -> list[str]:
    name = family.name + _SUFFIX.get(family.type, "")
    about = family.documentation.replace("\\", r"\\").replace("\n", r"\n")
    lines = [f"# HELP {name} {about}\n# TYPE {name} {_TYPE.get(family.type, family.type)}\n"]
    for sample in family.samples:
        labels, value = sample[1], sample[2]  # quicker than by name, and there are thousands
        number = repr(value) if type(value) is int else _number(value)
        if labels:
            given = ",".join([f'{label}="{_escaped(of)}"' for label, of in labels.items()])
            lines.append(f"{sample[0]}{{{given}}} {number}\n")
        else:
            lines.append(f"{sample[0]} {number}\n")
    return lines


@lru_cache(maxsize=4_096)
def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _number(value: float) -> str:
    if isinstance(value, int) or math.isfinite(value):
        return repr(+value)  # what is true is 1
    return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
