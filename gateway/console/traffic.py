"""What the live page plots: the totals of all workers, sampled every few seconds and kept for a quarter of an hour."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from itertools import accumulate
from math import inf
from typing import Any, Final

from gateway.telemetry.metrics import Exposition

SAMPLE_SECONDS: Final = 5.0

KEEP: Final = 180
"""Samples: a quarter of an hour."""

TOP: Final = 8
"""Categories that are named."""

_QUANTILES: Final = (0.5, 0.95, 0.99)


class Traffic:
    """Begin with the first `sample`; each further one tells what happened since."""

    def __init__(self, exposition: Exposition) -> None:
        self._exposition = exposition
        self._last: tuple[float, Counter[str], Counter[float], Counter[str]] | None = None
        self.samples: deque[dict[str, Any]] = deque(maxlen=KEEP)
        self.categories: dict[str, int] = {}

    def sample(self, now: float) -> None:
        """Take the totals as they are at ``now``."""
        actions, buckets, categories = self._totals()
        self.categories = dict(categories.most_common(TOP))
        if self._last is not None and now > self._last[0]:
            seconds = now - self._last[0]
            # A counter that went down belongs to workers that were all started anew.
            rates = {action: max(0.0, (actions[action] - self._last[1][action]) / seconds) for action in sorted(actions)}
            observed = Counter({bound: max(0.0, count - self._last[2][bound]) for bound, count in buckets.items()})
            self.samples.append({"time": now, "rates": rates, "screening": _quantiles(observed)})
        self._last = now, actions, buckets, categories

    def _totals(self) -> tuple[Counter[str], Counter[float], Counter[str]]:
        actions: Counter[str] = Counter()
        buckets: Counter[float] = Counter()
        categories: Counter[str] = Counter()
        series = self._exposition.series()
        for (_, _, action, _), value in _values(series, "portcullis_requests"):
            actions[action] += int(value)
        for (category, *_), value in _values(series, "portcullis_findings"):
            categories[category] += int(value)
        for (stage,), row in _values(series, "portcullis_screening_seconds"):
            if stage == "total":
                bounds = (*series["portcullis_screening_seconds"][4], inf)
                buckets.update(dict(zip(bounds, map(int, accumulate(row[:-1])), strict=True)))
        return actions, buckets, categories


def _values(series: dict[str, Any], name: str) -> Iterable[tuple[tuple[str, ...], Any]]:
    return series[name][3].items() if name in series else ()


def _quantiles(cumulative: Counter[float]) -> list[float | None]:
    """The upper bounds, in seconds, of the buckets in which the quantiles lie; None where nothing was observed."""
    total = max(cumulative.values(), default=0)
    if not total:
        return [None] * len(_QUANTILES)
    finite = [bound for bound in sorted(cumulative) if bound != float("inf")]
    return [next((bound for bound in finite if cumulative[bound] >= total * share), finite[-1]) for share in _QUANTILES]
