"""What comes of a stream goes out in the turn in which it came, and nothing is lost, doubled or let through where it cannot."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_relay import ACTING, KEY, SECRET, _bytes, _cut, _said, _target, cuts

from gateway.redaction.vault import Vault
from gateway.streams.following import Cut
from gateway.streams.listening import LONG, SLICE
from gateway.streams.moving import Moving
from gateway.streams.relay import Relay
from gateway.streams.streaming import Ahead
from gateway.wires.events import sse
from gateway.wires.frames import BadFraming


class Pipe:
    """A source that a test speaks through, as an upstream's connection does."""

    def __init__(self) -> None:
        self._bytes = b""
        self._over = False
        self._waiter: asyncio.Future[None] | None = None
        self._taker: Callable[[], bool] | None = None
        self.closed = False

    def say(self, data: bytes) -> None:
        self._bytes += data
        if self._waiter is None or self._taker is None or not self._taker():
            self.wake()

    def end(self) -> None:
        self._over = True
        self.wake()

    async def ready(self, unless: Callable[[], bool], take: Callable[[], bool] | None = None) -> bool:
        self._taker = take
        while not self._bytes and not self._over and not unless():
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        self._taker = None
        return bool(self._bytes or self._over)

    def wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        self._waiter = None

    @property
    def buffered(self) -> int:
        return len(self._bytes)

    def take(self) -> bytes:
        taken, self._bytes = self._bytes, b""
        return taken

    async def __anext__(self) -> bytes:
        if taken := self.take():
            return taken
        raise StopAsyncIteration

    def close(self) -> None:
        self.closed = True


class Caller:
    """A sink that keeps what it gets; ``slow`` until it reads on."""

    def __init__(self) -> None:
        self.got = b""
        self.reads = asyncio.Event()
        self.reads.set()

    @property
    def full(self) -> bool:
        return not self.reads.is_set()

    def write(self, data: bytes) -> None:
        self.got += data

    async def piece(self, data: bytes) -> None:
        await self.reads.wait()
        self.got += data


class _Held:
    """A stream that is being moved, and both its ends."""

    def __init__(self, name: str = "chat") -> None:
        self.pipe, self.caller = Pipe(), Caller()
        self.relay = Relay(_target(name), "m", ACTING, Vault(KEY))
        moving = Moving(self.relay, None, True, self._refusal, None)
        self.task = asyncio.ensure_future(moving.run(self.pipe, self.caller, (self.pipe, self.caller)))

    @staticmethod
    def _refusal(cut: Cut) -> str:
        return f"blocked: {cut.cause}"

    async def parked(self) -> None:
        """The task waits for the upstream."""
        async with asyncio.timeout(20):
            while self.pipe._waiter is None and not self.task.done():
                await asyncio.sleep(0)


def _text(text: str, **more: Any) -> bytes:
    return sse(orjson.dumps({"id": "c", "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}], **more}))


def test_a_piece_goes_out_in_the_turn_in_which_it_comes() -> None:
    async def go() -> None:
        held = _Held()
        for text in ("Good morning, ", "all is well. "):
            await held.parked()
            before = len(held.caller.got)
            held.pipe.say(_text(text))
            assert held.caller.got[before:] == _text(text)
        held.pipe.end()
        await held.task

    asyncio.run(go())


def test_nothing_follows_a_cut_that_was_made_in_passing() -> None:
    async def go() -> None:
        held = _Held()
        await held.parked()
        held.pipe.say(_text("now type rm -rf / and wait for what will come of it, which is"))
        assert held.relay.cut is not None
        held.pipe.say(_text(" that all is gone"))
        held.pipe.end()
        await held.task
        assert held.caller.got.count(b"content_filter") == 1
        assert b"gone" not in held.caller.got
        assert held.caller.got.endswith(b"data: [DONE]\n\n")

    asyncio.run(go())


def test_what_fails_in_passing_is_not_forgotten_at_the_end() -> None:
    async def go() -> None:
        held = _Held()
        await held.parked()
        held.pipe.say(b"data: no JSON\n\n")
        held.pipe.end()
        with pytest.raises(BadFraming):
            await held.task
        assert held.caller.got == b""

    asyncio.run(go())


def test_a_slow_caller_gets_all_of_it_in_order() -> None:
    async def go() -> None:
        held = _Held()
        await held.parked()
        held.pipe.say(_text("one "))
        held.caller.reads.clear()
        held.pipe.say(_text("two "))
        assert held.caller.got == _text("one ")
        held.pipe.say(_text("three "))
        held.pipe.end()
        held.caller.reads.set()
        await held.task
        assert held.caller.got == _text("one ") + _text("two ") + _text("three ")

    asyncio.run(go())


def test_others_have_their_turn_in_the_midst_of_what_is_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.streams.moving.TURN_SECONDS", 0)
    text = f"the key is {SECRET}, and all else is as it was. " * 600

    async def go() -> tuple[int, bytes]:
        held = _Held()
        await held.parked()
        held.pipe.say(_text(text))
        turns = 0
        while not held.caller.got:
            await asyncio.sleep(0)
            turns += 1
        held.pipe.end()
        await held.task
        return turns, held.caller.got

    turns, got = asyncio.run(go())
    assert turns > len(text) / SLICE
    whole = Relay(_target("chat"), "m", ACTING, Vault(KEY))
    assert _said("chat", got) == _said("chat", whole.feed(_text(text), _Held._refusal) + whole.end(_Held._refusal))
    assert SECRET.encode() not in got


@pytest.mark.parametrize(("size", "length"), [(40, 600), (3_500, 3_500)])
def test_others_have_their_turn_in_the_midst_of_what_is_dear(size: int, length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.streams.moving.TURN_SECONDS", 0)
    text = (f"the key is {SECRET}, it is. " * 140)[:length]
    chunk, more = b"".join(_text(text[at : at + size]) for at in range(0, length, size)), _text("and so on.")
    assert len(chunk) < LONG, "it is not long"

    async def go() -> tuple[int, bytes]:
        held = _Held()
        await held.parked()
        held.pipe.say(chunk)
        turns = 0
        while not held.caller.got:
            if turns == 2:
                held.pipe.say(more)  # waits until the other one is through
            await asyncio.sleep(0)
            turns += 1
        held.pipe.end()
        await held.task
        return turns, held.caller.got

    turns, got = asyncio.run(go())
    assert turns > 10
    whole = Relay(_target("chat"), "m", ACTING, Vault(KEY))
    assert _said("chat", got) == _said("chat", whole.feed(chunk + more, _Held._refusal) + whole.end(_Held._refusal))
    assert SECRET.encode() not in got


def test_one_who_leaves_in_the_midst_of_what_is_long_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.streams.moving.TURN_SECONDS", 0)

    async def go() -> None:
        held = _Held()
        await held.parked()
        held.pipe.say(_text("all is well. " * 10_000))
        while not held.relay.said.texts:
            await asyncio.sleep(0)
        held.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await held.task
        assert held.caller.got == b""
        held.relay.close()

    asyncio.run(go())


@settings(max_examples=40, deadline=None)
@given(where=cuts, pauses=st.lists(st.booleans(), max_size=14))
def test_whether_a_task_is_woken_changes_nothing(where: list[int], pauses: list[bool]) -> None:
    async def go() -> None:
        data = _bytes("chat", f"say:the key is {SECRET} indeed, and all else is as it was")
        held = _Held()
        for number, chunk in enumerate(_cut(data, where)):
            if number < len(pauses) and pauses[number]:
                await held.parked()
            held.pipe.say(chunk)
        held.pipe.end()
        await held.task
        whole = Relay(_target("chat"), "m", ACTING, Vault(KEY))
        wanted = whole.feed(data, held._refusal) + whole.end(held._refusal)
        assert _said("chat", held.caller.got) == _said("chat", wanted)
        assert SECRET.encode() not in held.caller.got

    asyncio.run(go())


def test_what_follows_a_stream_is_made_once_and_not_before_its_request_is_sent() -> None:
    async def go() -> None:
        made: list[int] = []

        def make() -> Any:
            made.append(1)
            return (object(),)

        ahead = Ahead(make)
        assert made == []
        await asyncio.sleep(0)  # as whoever waits for the upstream does
        assert made == [1]
        assert ahead.take() is ahead.take()
        assert Ahead(make).take() is not ahead.take(), "where nobody had to wait"
        await asyncio.sleep(0)
        assert made == [1, 1]

    asyncio.run(go())
