"""Streams through whole proxies: time to the first byte, how many fit at once, and what judging by meaning adds per policy."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

from bench import prompts
from bench.load import VARIED_STREAMS, Load, Loader, Run, counters, median, start_upstream
from bench.processes import Child, Lab, get, wait_until_it_answers
from bench.proxies import PATH, PATTERNS_ALONE, POLICIES, STREAMERS, Proxy

EVENTS: Final = 100
"""Events of a paced stream, 50 a second of 20 characters each: two seconds of a model's talk."""

MOST_ADDED_US: Final = 5_000
"""What an event may be delayed more than by the bare relay, at the 99th percentile."""

COUNTS: Final = (5, 10, 25, 40, 60, 80, 100, 150, 200, 300, 400, 1_000)
"""Streams at once that are tried in turn, until they do not fit any more."""

EVERY_MS: Final = 20
PACED_SECONDS: Final = 6
FEW: Final = 5
"""Streams at once by which policies are compared."""

FIRST: Final = Load("first", "streams of 20 events 1 ms apart, 1 connection", "sse-20-1000", 300, 1, VARIED_STREAMS)


def paced(count: int) -> Load:
    """So many streams at once, each of 50 events a second. They begin spread over the length of one: callers do not speak in
    chorus, and of streams in step each event would wait for those of all others."""
    title = f"{count} streams at once, 50 events a second each"
    model = f"sse-{EVENTS}-{EVERY_MS * 1_000}"
    return Load(f"at_once_{count}", title, model, 300, count, VARIED_STREAMS, EVENTS * EVERY_MS)


class Step(NamedTuple):
    """So many streams at once: through the bare relay and through the gateway."""

    at_once: int
    bare: Run
    ours: Run

    @property
    def added_us(self) -> float:
        """What an event is delayed more, at the 99th percentile."""
        return self.ours.delay_p99 - self.bare.delay_p99

    @property
    def fits(self) -> bool:
        return self.added_us < MOST_ADDED_US and not self.ours.bad

    def figures(self) -> dict[str, object]:
        return {"at_once": self.at_once, "added_us_p99": self.added_us, "bare": told(self.bare), "ours": told(self.ours)}


class Judged(NamedTuple):
    """A few streams under one policy: the run, judgements for each, and the mean seconds from a word to its judgement."""

    run: Run
    judgements: float
    lag: float | None

    def figures(self) -> dict[str, object]:
        return {**told(self.run), "judgements": self.judgements, "lag_seconds": self.lag}


class Network(NamedTuple):
    """All that was measured: to the first byte by proxy, how many fit by what judges them, and what each policy costs."""

    first: dict[str, Run]
    steps: dict[str, list[Step]]
    policies: dict[str, Judged]

    def figures(self) -> dict[str, object]:
        return {
            "first": {name: told(run) for name, run in self.first.items()},
            "steps": {name: [step.figures() for step in steps] for name, steps in self.steps.items()},
            "policies": {name: judged.figures() for name, judged in self.policies.items()},
        }



def told(run: Run) -> dict[str, float | None]:
    """A run for the last line, in which there is no NaN."""
    return {name: None if math.isnan(value) else value for name, value in run._asdict().items()}


def fitting(steps: list[Step]) -> int:
    """The most streams at once that fit."""
    return max((step.at_once for step in steps if step.fits), default=0)


class _Stand:
    """The upstream, and the proxies that stand before it."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._upstream = start_upstream(lab)
        self._loader = Loader(lab)

    def start(self, proxy: Proxy) -> Child:
        child = proxy.start(self._lab, self._upstream.port)
        wait_until_it_answers(child, PATH, prompts.request_body("whole", "Hello!"), {})
        return child

    def run(self, load: Load, child: Child, seconds: int) -> Run:
        return self._loader.run(load, child, self._upstream, {}, seconds)


def measure(rounds: int, seconds: int, whole: bool = True) -> Network:
    """Measure it; all but the first byte only of the ``whole``.

    Raises:
        BenchError: something that it needs is missing or does not start.
    """
    found = Network({}, {}, {})
    with Lab() as lab:
        stand = _Stand(lab)
        children = {proxy.name: stand.start(proxy) for proxy in STREAMERS}
        for child in children.values():
            stand.run(FIRST, child, 1)
        runs: dict[str, list[Run]] = {name: [] for name in children}
        for _ in range(rounds):
            for name, child in children.items():
                runs[name].append(stand.run(FIRST, child, seconds))
        found.first.update({name: median(some) for name, some in runs.items()})
        if not whole:
            return found
        bare: dict[int, Run] = {}
        for proxy in (*POLICIES, PATTERNS_ALONE):
            ours = children.pop(proxy.name, None) or stand.start(proxy)
            if proxy is not PATTERNS_ALONE:
                found.policies[proxy.name] = _judged(stand, ours)
            if proxy in (POLICIES[0], PATTERNS_ALONE):
                found.steps[proxy.name] = _steps(stand, children["bare"], ours, bare)
            lab.discard(ours)
    return found


def _steps(stand: _Stand, relay: Child, ours: Child, bare: dict[int, Run]) -> list[Step]:
    """More and more streams at once until they do not fit; ``bare`` keeps what the bare relay took for each number."""
    steps: list[Step] = []
    for count in COUNTS:
        if count not in bare:
            bare[count] = stand.run(paced(count), relay, PACED_SECONDS)
        steps.append(Step(count, bare[count], stand.run(paced(count), ours, PACED_SECONDS)))
        if not steps[-1].fits:
            break
    return steps


def _judged(stand: _Stand, ours: Child) -> Judged:
    stand.run(paced(FEW), ours, 2)
    before = _lag(ours)
    run = stand.run(paced(FEW), ours, PACED_SECONDS)
    count, total = (after - earlier for after, earlier in zip(_lag(ours), before, strict=True))
    return Judged(run, count / max(1.0, run.rate * PACED_SECONDS), total / count if count else None)


def _lag(child: Child) -> tuple[float, float]:
    """How many judgements there were of streams, and how many seconds all of them together were behind."""
    told = get(child.port, "/metrics").decode()
    return tuple(sum(counters(told, f"portcullis_stream_lag_seconds_{part}").values()) for part in ("count", "sum"))  # type: ignore[return-value]
