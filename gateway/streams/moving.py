"""A streamed reply on its way from the upstream to the caller, through its relay; a slow caller slows the upstream down.

What comes while there is nothing else to do goes out in the very turn of the event loop in which it came: no task is woken for
it. All else is a task's: what is long, in whose midst others have their turn, what waits for a judgement or for the caller, an
end, an error, silence.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from typing import Final, Protocol

from gateway.limits.usage import Usage
from gateway.screening.inspection import AT_ONCE
from gateway.streams.beside import Beside
from gateway.streams.following import Cut
from gateway.streams.listening import LONG
from gateway.streams.pauses import EARLY, PAUSE, Pauses
from gateway.streams.relay import Refusal, Relay
from gateway.streams.steps import Steps, T, begun
from gateway.wires.base import Thread

HOLD_SECONDS: Final = 2.0
"""How long a stream's text may be held while the upstream says nothing, where the policy does not wait for judgement."""

TURN_SECONDS: Final = 0.002
"""How long a turn of the event loop may take before others have theirs; the step at hand comes on top."""

_NEVER: Final = float("inf")


class Sink(Protocol):
    """Where a stream's bytes go."""

    async def piece(self, data: bytes) -> None:
        """Send; waits while the reader is slow.

        Raises:
            ClientGone: there is nobody to send to.
        """


class Direct(Sink, Protocol):
    """A sink that takes bytes without waiting."""

    @property
    def full(self) -> bool:
        """Whether the reader is slow, so that nothing more should be written."""

    def write(self, data: bytes) -> None:
        """As `piece`, where it is not `full`."""


class Source(Protocol):
    """What a stream's bytes come from."""

    async def ready(self, unless: Callable[[], bool], take: Callable[[], bool] | None = None) -> bool:
        """As `gateway.upstream.connection.Reply.ready`; a source may leave ``take`` alone."""

    def wake(self) -> None:
        """Make whoever waits in `ready` look up."""

    async def __anext__(self) -> bytes:
        """The next piece.

        Raises:
            StopAsyncIteration: the stream is over.
            Interrupted: it is to be cut for what did not stand in it.
            UpstreamError: it broke off.
        """

    def close(self) -> None:
        """No more is wanted of it."""


class Pieces(Source, Protocol):
    """A source whose next bytes can be taken without waiting."""

    @property
    def buffered(self) -> int:
        """How many are there."""

    def take(self) -> bytes:
        """All of them."""


class Interrupted(Exception):  # noqa: N818
    """Something beside the stream calls for a ``cut``; ``message`` is what the caller is told."""

    def __init__(self, cut: Cut, message: str) -> None:
        super().__init__(message)
        self.cut = cut
        self._message = message

    def refusal(self, cut: Cut) -> str:
        return self._message


class Moving:
    """One stream that is being moved. `run` does it."""

    def __init__(
        self, relay: Relay, beside: Beside | None, waits: bool, refusal: Refusal,
        keep: Callable[[Thread], Awaitable[None]] | None, usage: Usage | None = None, scanner: Executor | None = None,
        pauses: Pauses | None = None,
    ) -> None:  # fmt: skip
        """
        Args:
            waits: whether what is held waits for ever.
            keep: is awaited before the caller is told by what a later request can go on from this reply.
            usage: reads what is said of tokens.
            scanner: reads what is long; None for the event loop's own threads.
            pauses: those of the loop's other streams.
        """
        self._relay, self._beside, self._waits = relay, beside, waits
        self._refusal = refusal
        self._keep = keep
        self._usage = usage
        self._scanner = scanner
        self._pauses = pauses or Pauses()
        self._loop = asyncio.get_running_loop()
        self._last = self._loop.time()  # when something came
        self._timer: asyncio.TimerHandle | None = None
        self._rings = _NEVER  # when the timer does
        self._silent = False  # it did
        self._failure: Exception | None = None
        self._rest: Steps[bytes] | None = None  # of what came, and was begun in a turn whose time was up
        self._wake: Callable[[], None] = lambda: None

    async def run(self, source: Source, sink: Sink, direct: tuple[Pieces, Direct] | None = None) -> None:
        """Move it to its end, or to where it is cut. ``direct`` are the two once more, where bytes can go from one to the other
        without waiting.

        Raises:
            What source, sink and relay raise.
        """
        self._wake = source.wake
        take = None
        if direct is not None:
            pieces, out = direct
            take = lambda: self._take(pieces, out)  # noqa: E731
        try:
            await self._run(source, sink, take)
        finally:
            self._pauses.forget(self)
            if self._timer is not None:
                self._timer.cancel()

    async def _run(self, source: Source, sink: Sink, take: Callable[[], bool] | None) -> None:
        relay, beside = self._relay, self._beside

        async def progress() -> None:
            if out := self._allowed():
                await sink.piece(out)
            await self._in_turns(relay.keep_step())

        ended = False
        while not ended:
            if beside is not None:
                await beside.catch_up(progress)
            if relay.cut is not None:
                return
            self._watch()
            at_hand = await source.ready(self._stirred, take)
            if self._failure is not None:
                raise self._failure
            if self._rest is not None and (out := await self._resumed()):
                await sink.piece(out)
            if relay.cut is not None:
                return
            if not at_hand:
                if self._silent and (out := self._after_silence()):
                    await sink.piece(out)
                continue
            try:
                chunk = await source.__anext__()
            except StopAsyncIteration:
                chunk, ended = relay.splitter.missing, True
            except Interrupted as stop:
                await sink.piece(relay.stop(stop.cut, stop.refusal))
                return
            self._last = self._loop.time()
            for at in range(0, len(chunk), AT_ONCE):
                if at:
                    await asyncio.sleep(0)  # others have their turn
                    if beside is not None:
                        await beside.catch_up(progress)
                    if relay.cut is not None:
                        return
                piece = chunk[at : at + AT_ONCE]
                if relay.splitter.begun + len(piece) <= LONG:
                    out = self._feed(piece)
                    if self._rest is not None:
                        out = await self._resumed()
                else:
                    if self._usage is not None:
                        self._usage.feed(piece)
                    out = self._fed(await self._in_turns(relay.steps(piece, self._refusal)))
                    self._last = self._loop.time()
                if self._keep is not None and relay.thread is not None:  # before the caller knows by what to go on
                    keep, self._keep = self._keep, None
                    await keep(relay.thread)
                if out:
                    await sink.piece(out)
                if relay.cut is not None:
                    return
        if beside is not None:
            await beside.finish()
            await progress()
        if relay.cut is None and (out := relay.end(self._refusal)):
            await sink.piece(out)

    def _take(self, source: Pieces, sink: Direct) -> bool:
        """Bytes came while the task waits: pass them on, if that is all there is to do. Whether the task waits on."""
        beside = self._beside
        size = self._relay.splitter.begun + source.buffered
        if sink.full or self._keep is not None or self._rest is not None or size > LONG or (beside is not None and beside.full):
            return False
        self._last = self._loop.time()
        try:
            if out := self._feed(source.take()):
                sink.write(out)
        except Exception as error:
            self._failure = error
        if self._stirred():
            return False
        if beside is None:
            self._watch()
        else:
            self._pauses.came(self, self._last, self._loop)
        return True

    async def _resumed(self) -> bytes:
        """What goes on of what a turn had no time for."""
        assert self._rest is not None
        rest, self._rest = self._rest, None
        out = self._fed(await self._in_turns(rest))
        self._last = self._loop.time()
        return out

    async def _in_turns(self, steps: Steps[T]) -> T:
        """Do what may be long. What comes meanwhile waits at the source."""
        relay, answer, began = self._relay, None, time.perf_counter_ns()
        while True:
            try:
                work = steps.send(answer)
            except StopIteration as over:
                relay.nanoseconds += time.perf_counter_ns() - began
                done: T = over.value
                return done
            if work is not None:
                answer = await self._loop.run_in_executor(self._scanner, work)
                continue
            answer, now = None, time.perf_counter_ns()
            if now - began > TURN_SECONDS * 1e9:
                relay.nanoseconds += now - began
                await asyncio.sleep(0)
                began = time.perf_counter_ns()

    def _feed(self, chunk: bytes) -> bytes:
        """Take what is short, here and now; what of it takes longer than a turn may is left to `_resumed`."""
        if self._usage is not None:
            self._usage.feed(chunk)
        relay, began = self._relay, time.perf_counter_ns()
        out = relay.quick(chunk, self._refusal)
        if out is None:
            steps = relay.steps(chunk, self._refusal)
            done = begun(steps, lambda: time.perf_counter_ns() - began > TURN_SECONDS * 1e9)
            out, self._rest = (b"", steps) if done is None else (done[0], None)
        relay.nanoseconds += time.perf_counter_ns() - began
        return out if self._rest is not None else self._fed(out)

    def _fed(self, out: bytes) -> bytes:
        """What goes on of it, and of what is judged at once."""
        if self._beside is not None and self._relay.cut is None and self._beside.heard():
            out += self._allowed()
        return out

    def _allowed(self) -> bytes:
        """What may go out now that more was judged."""
        cut = self._beside.cut if self._beside is not None else None
        return self._relay.allowed() if cut is None else self._relay.stop(cut, self._refusal)

    def _stirred(self) -> bool:
        """Whether there is something to do for the task although nothing more came."""
        news = self._beside is not None and self._beside.news
        more = self._rest is not None or self._failure is not None
        return news or more or self._silent or self._relay.cut is not None

    # Silence.

    def _due(self) -> float:
        """When something is to be done should nothing come by then; loop time."""
        if self._beside is not None and self._beside.idle:
            return self._last + PAUSE
        return self._last + HOLD_SECONDS if not self._waits and self._relay.held else _NEVER

    def _watch(self) -> None:
        """See to it that the timer rings when that time has come: one that rings too early is set again then."""
        if self not in self._pauses:  # else that is seen to when it has paused
            self.paused()

    def paused(self) -> None:
        """Nothing came for `PAUSE`: set the timer that rings when there is something to do about it."""
        if (due := self._due()) < self._rings:
            if self._timer is not None:
                self._timer.cancel()
            self._rings = due
            self._timer = self._loop.call_at(due, self._ring)

    def _ring(self) -> None:
        self._timer, self._rings = None, _NEVER
        if self._due() - self._loop.time() > EARLY:
            self._watch()
        else:
            self._silent = True
            self._wake()

    def _after_silence(self) -> bytes:
        """The upstream has paused: have judged what it said, or let go what was held for too long."""
        self._silent = False
        if self._due() - self._loop.time() > EARLY:
            return b""
        if self._beside is not None and self._beside.idle:
            return self._allowed() if self._beside.send() else b""
        return self._relay.release_overdue(self._refusal)
