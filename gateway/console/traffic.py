"""What the live page plots: the totals of all workers, sampled every few seconds and kept for a quarter of an hour."""

from __future__ import annotations

from collections import Counter, deque
from typing import Any, Final

from gateway.metrics import Exposition

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
        for family in self._exposition.collect():
            if family.name == "portcullis_requests":
                for one in family.samples:
                    actions[one.labels["action"]] += int(one.value)
            elif family.name == "portcullis_findings":
                for one in family.samples:
                    categories[one.labels["category"]] += int(one.value)
            elif family.name == "portcullis_screening_seconds":
                for one in family.samples:
                    if one.name.endswith("_bucket") and one.labels["stage"] == "total":
                        buckets[float(one.labels["le"])] += int(one.value)
        return actions, buckets, categories


def _quantiles(cumulative: Counter[float]) -> list[float | None]:
    """The upper bounds, in seconds, of the buckets in which the quantiles lie; None where nothing was observed."""
    total = max(cumulative.values(), default=0)
    if not total:
        return [None] * len(_QUANTILES)
    finite = [bound for bound in sorted(cumulative) if bound != float("inf")]
    return [next((bound for bound in finite if cumulative[bound] >= total * share), finite[-1]) for share in _QUANTILES]
