"""Series as Prometheus reads them: the one door to prometheus-client, which nothing but a scrape needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST


class _Series:
    """prometheus-client's own protocol."""

    def __init__(self, series: Mapping[str, Any]) -> None:
        self._series = series

    def collect(self) -> Iterator[Metric]:
        yield from map(_family, self._series.items())


def written(series: Mapping[str, Any]) -> bytes:
    """The text format of series as `Exposition.series` gives them."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Series(series))
    return generate_latest(registry)


def _family(item: tuple[str, Any]) -> Metric:
    name, (kind, help_, labels, values, *rest) = item
    if kind == "counter":
        counter = CounterMetricFamily(name, help_, labels=labels)
        for key, value in values.items():
            counter.add_metric(key, value)
        return counter
    if kind == "gauge":
        gauge = GaugeMetricFamily(name, help_, labels=labels)
        for key, value in values.items():
            gauge.add_metric(key, value)
        return gauge
    histogram = HistogramMetricFamily(name, help_, labels=labels)
    for key, row in values.items():
        buckets: list[tuple[str, float]] = []
        total = 0.0
        for bound, count in zip((*rest[0], "+Inf"), row[:-1], strict=True):
            total += count
            buckets.append((str(bound), total))
        histogram.add_metric(key, buckets, row[-1])
    return histogram
