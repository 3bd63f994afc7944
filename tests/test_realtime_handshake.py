"""How a realtime session begins: handshakes and frames that are none."""

from __future__ import annotations

import json
import socket

import pytest
from gateways import Gateway, until
from realtime_support import KEY, Provider, closing, create, dial, handshake
from websockets.typing import Subprotocol


@pytest.mark.parametrize(("changes", "status"), [
    ({b"upgrade": None}, 426), ({b"upgrade": b"h2c"}, 426), ({b"connection": b"close"}, 426),
    ({b"sec-websocket-version": b"8"}, 426), ({b"sec-websocket-version": None}, 426),
    ({b"sec-websocket-key": None}, 400), ({b"sec-websocket-key": b"short"}, 400), ({b"Sec-WebSocket-Key": KEY}, 400),
    ({b"sec-websocket-protocol": b"realtime, realtime"}, 400), ({b"sec-websocket-protocol": b"a b"}, 400),
    ({b"content-length": b"5"}, 400), ({b"transfer-encoding": b"chunked"}, 400),
    ({b"origin": b"https://evil.example"}, 403), ({b"origin": b"null"}, 403), ({b"host": b"evil.example"}, 421),
])  # fmt: skip
def test_a_handshake_that_is_none_is_refused(scripted: Gateway, changes: dict[bytes, bytes | None], status: int) -> None:
    line = b"HTTP/1.1 %d" % status
    with socket.create_connection(("127.0.0.1", scripted.port), timeout=10) as caller:
        caller.sendall(handshake(changes))
        if b"content-length" in changes:
            caller.sendall(b"hello")
        if b"transfer-encoding" in changes:
            caller.sendall(b"0\r\n\r\n")
        assert caller.recv(65536).startswith(line)


@pytest.mark.parametrize("data", [
    handshake({}, b"GET /v1/realtime HTTP/1.0"),
    handshake({}) + b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\n\r\n",
    handshake({}) + b"\x81\x85\x00\x00\x00\x00hello",
])  # fmt: skip
def test_what_stands_behind_a_handshake_is_no_secondhandshake(scripted: Gateway, data: bytes) -> None:
    with socket.create_connection(("127.0.0.1", scripted.port), timeout=10) as caller:
        caller.sendall(data)
        got = b""
        while piece := caller.recv(65536):
            got += piece
            if b"\r\n\r\n" in got and b"connection: close" not in got:
                break
    assert b" 101 " not in got
    assert got.count(b"HTTP/1.1 ") <= 1


def test_no_extension_is_agreed_on_and_the_subprotocol_is(scripted: Gateway, provider: Provider) -> None:
    with provider.plays(closing), dial(scripted, subprotocols=[Subprotocol("realtime")]) as session:
        assert session.subprotocol == "realtime"
        assert session.response is not None
        assert "sec-websocket-extensions" not in session.response.headers
        until(lambda: provider.heads)
        assert "sec-websocket-extensions" not in provider.heads[-1]


def _frame(opcode: int, payload: bytes, fin: bool = True, masked: bool = True) -> bytes:
    size = bytes([len(payload)]) if len(payload) < 126 else b"\x7e" + len(payload).to_bytes(2, "big")
    size = bytes([size[0] | (0x80 if masked else 0)]) + size[1:]
    return bytes([opcode | (0x80 if fin else 0)]) + size + (b"\0\0\0\0" if masked else b"") + payload


def _raw(gateway: Gateway, *frames: bytes) -> bytes:
    """What the gateway says to these frames, until it closes the connection."""
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=20) as caller:
        caller.sendall(handshake({}))
        got = b""
        while b"\r\n\r\n" not in got:
            got += caller.recv(65536)
        assert got.startswith(b"HTTP/1.1 101")
        for frame in frames:
            caller.sendall(frame)
        try:
            while piece := caller.recv(65536):
                got += piece
        except ConnectionError:
            pass
        return got.partition(b"\r\n\r\n")[2]


@pytest.mark.parametrize(("frames", "code"), [
    ([_frame(1, b"hello", masked=False)], 1002),
    ([_frame(1, b"\xff\xfe")], 1007),
    ([_frame(1, b"caf\xc3", fin=False), _frame(0, b"(")], 1007),
    ([_frame(1, b"a" * 60_000, fin=False), _frame(0, b"a" * 60_000)], 1009),
    ([_frame(2, b"bytes")], 1003),
    ([_frame(0, b"goes on")], 1002),
    ([_frame(9, b"p" * 126)], 1002),
    ([_frame(9, b"ping", fin=False)], 1002),
    ([bytes([0x80 | 0x40 | 1, 0x80, 0, 0, 0, 0])], 1002),
    ([_frame(3, b"reserved")], 1002),
    ([_frame(8, b"\x03")], 1002),
])  # fmt: skip
def test_frames_that_are_none_end_the_session(scripted: Gateway, provider: Provider, frames: list[bytes], code: int) -> None:
    with provider.plays(closing):
        got = _raw(scripted, *frames)
        assert got[-4:-2] == b"\x88\x02" or b"\x88" in got
        assert code.to_bytes(2, "big") in got


def test_fragments_with_pings_between_are_one_message(scripted: Gateway, provider: Provider) -> None:
    message = json.dumps(create("All's well in café Zürich.")).encode()
    pieces = [message[at : at + 7] for at in range(0, len(message), 7)]
    frames = [_frame(1, pieces[0], fin=False)]
    for piece in pieces[1:-1]:
        frames += [_frame(9, b"there?"), _frame(0, piece, fin=False)]
    with provider.plays(closing):
        got = _raw(scripted, *frames, _frame(0, pieces[-1]), _frame(9, b"last"), _frame(8, b"\x03\xe8"))
    assert b"\x8a\x04last" in got
    assert provider.over.wait(10)
    assert provider.raw == [message.decode()]
