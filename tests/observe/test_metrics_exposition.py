"""The text is what the client library reads, and what its own writer writes."""

from __future__ import annotations

import math

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.parser import text_string_to_metric_families

from streambroker.observe.exposition import text


def test_it_reads_as_what_the_librarys_own_writer_writes() -> None:
    registry = CollectorRegistry()
    about = 'A "quoted" \\ back\\slash\nand a second line.'
    Counter("messages", about, ["queue"], registry=registry).labels("q").inc(3)
    Gauge("plain", "No labels.", registry=registry).set(1.5)
    odd = Gauge("odd", "Odd values.", ["of"], registry=registry)
    for value in (math.inf, -math.inf, 1e300, 1e-300, 0, -2):
        odd.labels(str(value)).set(value)
    odd.labels('a "b"\\\n').set(math.nan)
    Histogram("took_seconds", "A histogram.", ["route"], registry=registry, buckets=(0.1, 1)).labels("{x}").observe(0.5)
    Info("build", "Versions.", registry=registry).info({"version": "1"})

    def read(written: bytes) -> list[tuple[str, str, str, list[tuple[str, dict[str, str], str]]]]:
        families = text_string_to_metric_families(written.decode())
        return [
            (f.name, f.documentation, f.type, [(s.name, s.labels, repr(s.value)) for s in f.samples])
            for f in families
            if not f.name.endswith("_created")
        ]

    ours = list(registry.collect())
    for family in ours:
        family.samples = [s for s in family.samples if not s.name.endswith("_created")]
    assert read(text(ours)) == read(generate_latest(registry))


def test_whole_numbers_keep_all_their_digits() -> None:
    family = GaugeMetricFamily("big", "Big.", value=2**60 + 1)
    assert text([family]).endswith(b"\nbig 1152921504606846977\n")
