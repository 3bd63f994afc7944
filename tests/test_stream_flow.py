"""Callers and upstreams of a stream that do not behave: they go on for ever, stop reading, leave, fail half-way, answer otherwise."""

from __future__ import annotations

import asyncio
import resource
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from gateways import Gateway, until
from upstreams import Upstream, upstream
from wires_support import CHAT

ASKED = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "Tell me about the harbour."}]}
WORDS = "The market beside the harbour is open on Sundays. " * 20
MOST = 24 * 2**20
"""Bytes that buffers of two kernels and of the gateway may take before an upstream that goes on for ever is paused."""


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _frame(text: str) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    doc = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return _chunk(b"data: " + orjson.dumps(doc) + b"\n\n")


GROWTH = 40 * 2**20
"""Bytes by which the gateway may grow meanwhile: what it read ahead, what it judges at a time, and what it keeps for the record."""


def _resident(gateway: Gateway) -> int:
    return int(Path(f"/proc/{gateway.process.pid}/statm").read_text().split()[1]) * resource.getpagesize()


MESSAGE = {**ASKED, "max_tokens": 9}
BEGUN = (
    b'event: message_start\ndata: {"type":"message_start","message":{"id":"m","type":"message","role":"assistant","model":"m",'
    b'"content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":1,"output_tokens":1}}}\n\n'
    b'event: content_block_start\ndata: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}\n\n'
    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta",'
    b'"text":"It is open. "}}\n\n'
)
FAILED = b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"too many callers"}}\n\n'


def _head(kind: bytes, status: bytes = b"200 OK") -> bytes:
    return b"HTTP/1.1 %b\r\ncontent-type: %b\r\nconnection: close\r\n\r\n" % (status, kind)


class _Endless:
    """Writes for ever, and notes when it is paused for two seconds and when the connection is closed."""

    def __init__(self) -> None:
        self.sent = 0
        self.paused = threading.Event()
        self.closed = threading.Event()

    async def __call__(self, _body: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        frame = _frame(WORDS)
        gone = asyncio.ensure_future(reader.read())
        while not gone.done() and self.sent < 4 * MOST:
            writer.write(frame)
            self.sent += len(frame)
            drained = asyncio.ensure_future(writer.drain())
            done, _ = await asyncio.wait([drained, gone], timeout=2, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                self.paused.set()
                await asyncio.wait([drained, gone], return_when=asyncio.FIRST_COMPLETED)
        self.closed.set()


class _Says:
    """Answers with the bytes that a test chose."""

    answer = b""

    async def __call__(self, _body: bytes, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(self.answer)
        await writer.drain()
        writer.close()


@pytest.fixture(scope="module")
def endless() -> _Endless:
    return _Endless()


@pytest.fixture(scope="module")
def provider(endless: _Endless) -> Iterator[Upstream]:
    with upstream(endless) as running:
        yield running


@pytest.fixture(scope="module")
def says() -> _Says:
    return _Says()


@pytest.fixture(scope="module")
def gateway(provider: Upstream, says: _Says, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with upstream(says) as other:
        settings = {
            "limits": {"ready_grace_seconds": 0}, "detection": {"encoder": False},
            "upstreams": {"openai": {"base_url": provider.base_url, "attempts": 1},
                          "anthropic": {"base_url": other.base_url.removesuffix("/v1"), "attempts": 1}},
        }  # fmt: skip
        running = Gateway(tmp_path_factory.mktemp("flow"), settings, 1, {})
        yield running
        running.stop()


def test_who_stops_reading_pauses_the_upstream_and_who_leaves_ends_it(
    gateway: Gateway, endless: _Endless, says: _Says
) -> None:
    says.answer = _head(b"text/event-stream") + BEGUN
    with gateway.client() as client:
        client.post("/v1/messages", json=MESSAGE)  # what is loaded for the first stream is not counted
    before = _resident(gateway)
    body = orjson.dumps(ASKED)
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=60) as caller:
        caller.sendall(
            b"POST %b HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
            % (CHAT.encode(), len(body), body)
        )
        assert caller.recv(64).startswith(b"HTTP/1.1 200")
        assert endless.paused.wait(120)
        assert endless.sent < MOST
        assert not endless.closed.is_set()
        assert _resident(gateway) - before < GROWTH
    assert endless.closed.wait(10)
    with gateway.client() as client:  # the record follows
        until(lambda: len(client.get("/admin/v1/decisions").json()["decisions"]) == 2)
        decision = client.get("/admin/v1/decisions").json()["decisions"][0]
        assert client.get(f"/admin/v1/decisions/{decision['id']}").json()["client_gone"] is True


def test_an_error_in_the_middle_is_passed_on_once_and_nothing_follows(gateway: Gateway, says: _Says) -> None:
    says.answer = _head(b"text/event-stream") + BEGUN + FAILED
    with gateway.client() as client:
        got = client.post("/v1/messages", json=MESSAGE)
    assert got.status_code == 200
    assert "It is open." in got.text
    assert got.text.count('"overloaded_error"') == 1
    assert "message_stop" not in got.text


@pytest.mark.parametrize("kind", [b"text/html", b"application/octet-stream", b"text/plain"])
def test_an_answer_of_another_kind_is_no_stream_and_does_not_pass(gateway: Gateway, says: _Says, kind: bytes) -> None:
    says.answer = _head(kind) + BEGUN
    with gateway.client() as client:
        got = client.post("/v1/messages", json=MESSAGE)
    assert got.status_code == 502
    assert "open" not in got.text


def test_a_frame_that_says_two_things_does_not_pass(gateway: Gateway, says: _Says) -> None:
    """One client reads the first of two equal keys, another the last."""
    says.answer = _head(b"text/event-stream") + BEGUN + BEGUN[BEGUN.index(b"event: content_block_delta"):].replace(
        b'"text":"It is open. "', b'"text":"It is shut. ", "text":"It is open. "'
    )  # fmt: skip
    with gateway.client() as client:
        got = client.post("/v1/messages", json=MESSAGE)
    assert got.text.count("It is open.") == 1
    assert "shut" not in got.text
    assert "event: error" in got.text


def test_a_reply_that_says_two_things_does_not_pass(gateway: Gateway, says: _Says) -> None:
    doc = {"id": "m", "type": "message", "role": "assistant", "model": "m", "content": [{"type": "text", "text": "open"}],
           "stop_reason": "end_turn", "stop_sequence": None, "usage": {"input_tokens": 1, "output_tokens": 1}}  # fmt: skip
    with gateway.client() as client:
        says.answer = _head(b"application/json") + orjson.dumps(doc)
        assert client.post("/v1/messages", json={**MESSAGE, "stream": False}).status_code == 200
        says.answer = says.answer.replace(b'"text":"open"', b'"text":"shut","text":"open"')
        got = client.post("/v1/messages", json={**MESSAGE, "stream": False})
    assert got.status_code == 502
    assert "repeats a key" in got.text
    assert "shut" not in got.text


def test_a_stream_that_ends_inside_a_character_says_so(gateway: Gateway, says: _Says) -> None:
    says.answer = _head(b"text/event-stream") + BEGUN + BEGUN[BEGUN.index(b"event: content_block_delta"):].replace(
        b'It is open. "}}\n\n', "Caf\u00e9".encode()[:-1]
    )  # fmt: skip
    with gateway.client() as client:
        got = client.post("/v1/messages", json=MESSAGE)
    assert "It is open." in got.text
    assert "Caf" not in got.text
