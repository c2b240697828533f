"""Metrics for Prometheus: what the kernel and the store say at the moment of the scrape; nothing is counted here."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from corral import __version__
from corral.engine import journal
from corral.engine.verbs import find

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from prometheus_client.core import Metric

    from corral.engine.places import Places

__all__ = ["exposition"]

# Series per container are bounded: a store may have more containers than a time-series database likes.
MAX_CONTAINERS = 1000
# Name, text, kind, the sample's key, and what of it makes the metric's unit.
_PER_CONTAINER = (
    ("memory_bytes", "memory in use", GaugeMetricFamily, "memory_bytes", 1),
    ("memory_limit_bytes", "the limit on memory, 0 for none", GaugeMetricFamily, "memory_limit_bytes", 1),
    ("cpu_seconds", "CPU time used", CounterMetricFamily, "cpu_ns", 1e9),
    ("throttled_seconds", "time without CPU because of its limit", CounterMetricFamily, "throttled_ns", 1e9),
    ("oom_kills", "processes killed for want of memory", CounterMetricFamily, "oom_kills", 1),
    ("io_read_bytes", "bytes read", CounterMetricFamily, "io_read_bytes", 1),
    ("io_write_bytes", "bytes written", CounterMetricFamily, "io_write_bytes", 1),
    ("pids", "processes and threads", GaugeMetricFamily, "pids", 1),
)


def exposition(places: Places) -> bytes:
    """The text of one scrape. Blocks; call it in a worker thread."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(places))
    return generate_latest(registry)


class _Collector:
    def __init__(self, places: Places) -> None:
        self._places = places

    def collect(self) -> Iterator[Metric]:
        rows: list[dict[str, Any]] = find("ps")(self._places, is_all=True)
        info = GaugeMetricFamily("corral_build_info", "the version", labels=["version"])
        info.add_metric([__version__], 1)
        yield info
        yield from _by_status(rows)
        yield GaugeMetricFamily(
            "corral_cleanup_pending",
            "containers of which something could not be taken away yet",
            value=sum(1 for row in rows if row.get("pending")),
        )
        yield CounterMetricFamily(
            "corral_events", "the number of the last event", value=journal.last_number(self._places)
        )
        yield from self._samples()

    def _samples(self) -> Iterator[Metric]:
        samples: list[dict[str, Any]] = find("stats")(self._places)
        for suffix, text, family, key, scale in _PER_CONTAINER:
            metric = family(f"corral_container_{suffix}", text, labels=["id", "name"])
            for sample in samples[:MAX_CONTAINERS]:
                value = sample.get(key)
                if value is not None:
                    metric.add_metric([sample["id"][:12], sample.get("name", "")], value / scale)
            yield metric


def _by_status(rows: list[dict[str, Any]]) -> Iterator[Metric]:
    metric = GaugeMetricFamily("corral_containers", "containers by what they are doing", labels=["status"])
    found: dict[str, int] = {}
    for row in rows:
        found[row["status"]] = found.get(row["status"], 0) + 1
    for name, count in sorted(found.items()):
        metric.add_metric([name], count)
    yield metric
