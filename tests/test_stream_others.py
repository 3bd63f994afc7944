"""One stream of a worker floods it with text that is dear to follow, or says nothing for long: the worker's other streams go on."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import threading
from collections.abc import Iterator

import orjson
import pytest
from gateways import Gateway, until
from upstreams import Upstream, upstream
from wires_support import CHAT

DEAR = ("password=", "4111\u00a01111\u00a01111\u00a01111\u00a0", "-----BEGIN RSA PRIVATE KEY-----\n", "\\u0031")
"""What takes longest to follow, each in turn; of the rest see `python -m bench stream`."""

TURNS = 6


def _frame(text: str, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    doc = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return b"data: " + orjson.dumps(doc) + b"\n\n"


class _Model:
    """Answers as the request's model is called: ``floods`` without end, ``stalls`` until `go_on`, or says a few words."""

    def __init__(self) -> None:
        self.gone = threading.Event()
        self._loop = asyncio.new_event_loop()  # the one that serves, once somebody stalls
        self._going_on = asyncio.Event()

    def go_on(self) -> None:
        self._loop.call_soon_threadsafe(self._going_on.set)

    async def __call__(self, body: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")
        model = orjson.loads(body)["model"]
        if model == "floods":
            await self._flood(reader, writer)
            return
        writer.write(_frame("Good "))
        if model == "stalls":
            self._loop, self._going_on = asyncio.get_running_loop(), asyncio.Event()
            await self._going_on.wait()
        writer.write(_frame("morning.") + _frame("", "stop") + b"data: [DONE]\n\n")
        await writer.drain()
        writer.close()

    async def _flood(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        texts = [(unit * 1_000)[:1_000] for unit in DEAR]
        frames = [b"".join(_frame(text[at : at + 4]) for at in range(0, len(text), 4)) for text in texts]
        gone = asyncio.ensure_future(reader.read())
        while not gone.done():
            for each in frames:
                writer.write(each)
                drained = asyncio.ensure_future(writer.drain())
                await asyncio.wait([drained, gone], return_when=asyncio.FIRST_COMPLETED)
        self.gone.set()


class _Caller:
    """Has a stream in a thread of its own; ``got`` is what came so far."""

    def __init__(self, gateway: Gateway, model: str) -> None:
        self.got = bytearray()
        self._connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=60)
        body = orjson.dumps({"model": model, "stream": True, "messages": [{"role": "user", "content": "Good morning."}]})
        self._connection.request("POST", CHAT, body, {"content-type": "application/json"})
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        answer = self._connection.getresponse()
        with contextlib.suppress(http.client.IncompleteRead):  # where it left itself
            while piece := answer.read1(65_536):
                self.got += piece

    def ended(self) -> bytes:
        self._thread.join(60)
        assert not self._thread.is_alive()
        return bytes(self.got)

    def leave(self) -> None:
        assert self._connection.sock is not None
        self._connection.sock.shutdown(2)
        self._thread.join(60)


@pytest.fixture(scope="module")
def model() -> _Model:
    return _Model()


@pytest.fixture(scope="module")
def gateway(model: _Model, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    provider: Upstream
    with upstream(model) as provider:
        settings = {"limits": {"ready_grace_seconds": 0}, "detection": {"encoder": False},
                    "upstreams": {"openai": {"base_url": provider.base_url, "attempts": 1}}}  # fmt: skip
        running = Gateway(tmp_path_factory.mktemp("others"), settings, 1, {})
        yield running
        running.stop()


def test_others_go_on_while_one_floods_and_it_goes_on_as_well(gateway: Gateway, model: _Model) -> None:
    flood = _Caller(gateway, "floods")
    for _ in range(TURNS):
        before = len(flood.got)
        other = _Caller(gateway, "quick").ended()
        assert b"morning." in other
        assert other.endswith(b"data: [DONE]\n\n")
        until(lambda before=before: len(flood.got) > before)
        assert not model.gone.is_set()
    flood.leave()
    assert model.gone.wait(30)
    assert b"4111\\u00a01111\\u00a01111\\u00a01111" not in flood.got
    assert "4111\u00a01111\u00a01111\u00a01111".encode() not in flood.got


def test_others_go_on_while_one_says_nothing_and_it_goes_on_when_it_does(gateway: Gateway, model: _Model) -> None:
    stalled = _Caller(gateway, "stalls")
    until(lambda: b"Good " in stalled.got)
    for _ in range(TURNS):
        assert b"morning." in _Caller(gateway, "quick").ended()
    assert b"morning." not in stalled.got
    model.go_on()
    assert b"morning." in stalled.ended()
    assert stalled.got.endswith(b"data: [DONE]\n\n")
