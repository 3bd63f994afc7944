"""A circuit breaker: when an upstream is down, say so at once instead of making every caller wait. Pure; `now` is given.

Closed, it counts. Open, it refuses. Half open, it lets one request through at a time to see: a success closes it, a
failure opens it for twice as long. A trial that never reports (its caller went away) is replaced after a while.
"""

from __future__ import annotations

from enum import StrEnum
from math import inf
from typing import NamedTuple


class State(StrEnum):
    """What the breaker does with the next request."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class BreakerPolicy(NamedTuple):
    """When to open, and for how long.

    Attributes:
        streak: failures in a row that open it.
        ratio: share of failures among the outcomes of a window that opens it. A window begins with a failure.
        least: outcomes below which the share says nothing.
        window: seconds.
        rest: seconds that it stays open the first time; each failed trial doubles it.
        longest_rest: seconds that it stays open at most.
    """

    streak: int = 8
    ratio: float = 0.5
    least: int = 40
    window: float = 10.0
    rest: float = 2.0
    longest_rest: float = 60.0


class Breaker:
    """Counts outcomes and decides whether the next request may go."""

    __slots__ = ("_closed", "_failures", "_next", "_policy", "_rest", "_since", "_streak", "_successes", "_trying", "opened")

    def __init__(self, policy: BreakerPolicy) -> None:
        self.opened = 0
        """How often it has opened."""
        self._policy = policy
        self._closed = True
        self._trying = False
        self._next = 0.0  # while not closed: when the next trial may go
        self._rest = policy.rest
        self._since = -inf  # when the window began
        self._streak = self._successes = self._failures = 0

    def admit(self, now: float) -> float:
        """Ask leave to send a request: 0.0 means go; more is the number of seconds to stay away."""
        if self._closed:
            return 0.0
        if now < self._next:
            return self._next - now
        self._trying = True
        self._next = now + self._rest
        return 0.0

    def succeeded(self) -> None:
        """The upstream answered a request."""
        if self._closed:
            self._streak = 0
            self._successes += 1
        elif self._trying:  # else it is an answer to a request from before, and says little
            self._closed = True
            self._rest = self._policy.rest
            self._forget()

    def failed(self, now: float) -> None:
        """The upstream failed a request."""
        if not self._closed:
            if self._trying:
                self._rest = min(self._rest * 2, self._policy.longest_rest)
                self._open(now)
            return
        if now - self._since >= self._policy.window:
            self._since = now
            self._successes = self._failures = 0
        self._streak += 1
        self._failures += 1
        outcomes = self._successes + self._failures
        mostly = outcomes >= self._policy.least and self._failures >= self._policy.ratio * outcomes
        if mostly or self._streak >= self._policy.streak:
            self._open(now)

    def state(self, now: float) -> State:
        """For people and metrics."""
        if self._closed:
            return State.CLOSED
        return State.HALF_OPEN if self._trying or now >= self._next else State.OPEN

    def _open(self, now: float) -> None:
        self._closed = self._trying = False
        self._next = now + self._rest
        self.opened += 1

    def _forget(self) -> None:
        self._trying = False
        self._streak = self._successes = self._failures = 0
        self._since = -inf
