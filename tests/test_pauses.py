"""Streams in which nothing came for a moment are told of it at that moment, with one timer for all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.streams.pauses import EARLY, PAUSE, Pauses


class Clock:
    """An event loop's clock; time passes when it is said."""

    def __init__(self) -> None:
        self.now = 100.0
        self.timers: list[tuple[float, Callable[..., None]]] = []
        self.rung = 0

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[..., None], *_: object) -> object:
        self.timers.append((when, callback))
        return self.timers[-1]

    def until(self, then: float) -> None:
        while due := [one for one in self.timers if one[0] <= then]:
            first = min(due, key=lambda one: one[0])
            self.timers.remove(first)
            self.now, self.rung = max(self.now, first[0]), self.rung + 1
            first[1](self)
        self.now = then


class Stream:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.told: list[float] = []

    def paused(self) -> None:
        self.told.append(self._clock.now)


LENGTHS = [0.0, 0.011, 0.021, 0.043, 0.2]
"""Seconds between two events. No sum of them is so near to a pause that a timer's earliness decides."""

PIECES = st.lists(st.tuples(st.sampled_from(LENGTHS), st.integers(0, 3), st.booleans()))


@given(pieces=PIECES)
def test_each_is_told_once_when_nothing_came_for_that_long(pieces: list[tuple[float, int, bool]]) -> None:
    clock, pauses = Clock(), Pauses()
    streams = [Stream(clock) for _ in range(4)]
    came: dict[int, float] = {}
    wanted: list[list[float]] = [[] for _ in streams]

    def pass_until(then: float) -> None:
        clock.until(then)
        for number, last in list(came.items()):
            if last + PAUSE <= then:
                wanted[number].append(came.pop(number) + PAUSE)

    for seconds, number, ends in pieces:
        pass_until(clock.now + seconds)
        if ends:
            pauses.forget(streams[number])
            came.pop(number, None)
        else:
            pauses.came(streams[number], clock.now, cast(Any, clock))
            came[number] = clock.now
        assert len(clock.timers) <= 1
    pass_until(clock.now + 1)
    for stream, times in zip(streams, wanted, strict=True):
        assert stream.told == pytest.approx(times, abs=EARLY)
        assert stream not in pauses
    assert not clock.timers, "nobody is woken for nothing"


def test_streams_in_which_words_come_are_hardly_looked_at() -> None:
    clock, pauses = Clock(), Pauses()
    streams = [Stream(clock) for _ in range(100)]
    for number in range(10_000):  # fifty words a second each, two seconds long
        clock.until(100 + number / 5_000)
        pauses.came(streams[number % 100], clock.now, cast(Any, clock))
    assert clock.rung < 2 / (PAUSE - 1 / 50) + 1
    assert not any(stream.told for stream in streams)


def test_a_real_loop_tells_in_time() -> None:
    async def story() -> float:
        loop, told = asyncio.get_running_loop(), asyncio.Event()

        class One:
            def paused(self) -> None:
                told.set()

        began = loop.time()
        Pauses().came(One(), began, loop)
        async with asyncio.timeout(20):
            await told.wait()
        return loop.time() - began

    assert asyncio.run(story()) >= PAUSE - EARLY


def test_one_that_fails_keeps_nobody_else_waiting() -> None:
    class Failing(Stream):
        def paused(self) -> None:
            raise RuntimeError("a fault")

    clock, pauses = Clock(), Pauses()
    failing, other = Failing(clock), Stream(clock)
    for one in (failing, other):
        pauses.came(one, clock.now, cast(Any, clock))
    with pytest.raises(RuntimeError):
        clock.until(clock.now + PAUSE)
    clock.until(clock.now + PAUSE)
    assert len(other.told) == 1
