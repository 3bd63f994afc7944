"""Messages of a realtime session that are very long, come in very small fragments, or do not come to their end."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator

import pytest
from gateways import Gateway
from realtime_support import CARD, SECRET, Provider, begin, closing, create, delta, dial, done, handshake, hear, say
from test_realtime_handshake import _frame
from websockets.sync.server import ServerConnection

WORDS = "The market beside the harbour is open on Sundays. " * 200_000
SAID = json.dumps(create(f"All is well, {SECRET}.")).encode()


@pytest.fixture(scope="module")
def wide(provider: Provider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    settings = {
        "limits": {"ready_grace_seconds": 0, "drain_seconds": 2}, "detection": {"encoder": False},
        "realtime": {"message_bytes": 16 * 2**20}, "upstreams": {"openai": {"base_url": provider.base_url, "attempts": 1}},
    }  # fmt: skip
    started = Gateway(tmp_path_factory.mktemp("wide"), settings, 1, {})
    yield started
    started.stop()


def _heard(session: object) -> str:
    said = ""
    while (event := json.loads(session.recv(timeout=120)))["type"] != "response.done":  # type: ignore[attr-defined]
        said += event.get("delta", "")
    return said


def test_ten_megabytes_in_one_event_of_either_side(wide: Gateway, provider: Provider) -> None:
    def script(server: ServerConnection) -> None:
        asked = server.recv(timeout=120)
        say(server, *begin(), delta(f"{WORDS}the key is {SECRET} indeed"), done())
        assert len(asked) > len(WORDS)
        closing(server)

    with provider.plays(script), dial(wide) as session:
        say(session, create(f"{WORDS}the card is {CARD} indeed"))
        said = _heard(session)
    for text, begun in ((said, "the key is [SECRET_"), (provider.seen[0]["item"]["content"][0]["text"], "the card is [PII_PAYMENT_")):
        assert text.startswith(WORDS + begun)
        assert text.endswith("] indeed")


def test_the_server_sends_a_byte_at_a_time(scripted: Gateway, provider: Provider) -> None:
    def script(server: ServerConnection) -> None:
        say(server, *begin())
        server.send(list(json.dumps(delta(f"it is {SECRET} ok"))))
        say(server, done())
        closing(server)

    with provider.plays(script), dial(scripted) as session:
        said = _heard(session)
    assert said.startswith("it is [SECRET_")
    assert said.endswith("] ok")


@pytest.mark.parametrize(("sent", "left"), [
    (_frame(1, SAID[:30], fin=False) + _frame(8, b"\x03\xe8"), False), (_frame(1, SAID[:30], fin=False), True),
    (_frame(1, SAID[:120])[:60], True), (_frame(1, SAID[:30], fin=False) + _frame(2, b"bytes"), False),
], ids=["a close between fragments", "half a message", "half a frame", "bytes in a text"])  # fmt: skip
def test_of_a_message_without_its_end_nothing_goes_on(scripted: Gateway, provider: Provider, sent: bytes, left: bool) -> None:
    with provider.plays(closing), socket.create_connection(("127.0.0.1", scripted.port), timeout=20) as caller:
        caller.sendall(handshake({}))
        assert caller.recv(65_536).startswith(b"HTTP/1.1 101")
        caller.sendall(sent)
        if left:
            caller.shutdown(socket.SHUT_WR)
        while caller.recv(65_536):
            pass
        assert provider.over.wait(10)
    assert provider.raw == []


def test_of_the_servers_message_without_its_end_nothing_goes_on(scripted: Gateway, provider: Provider) -> None:
    def script(server: ServerConnection) -> None:
        say(server, *begin(), delta("All is "))
        half = json.dumps(delta(f"well, {SECRET}")).encode()[:100]
        server.socket.sendall(bytes([1, len(half)]) + half)
        server.socket.shutdown(socket.SHUT_RDWR)

    with provider.plays(script), dial(scripted) as session:
        assert hear(session, "response.output_text.delta")["delta"] == "All is "
        assert hear(session, "error")["error"]["code"] == "upstream_error"
        assert hear(session, "response.done")["response"]["status"] == "failed"
        assert closing(session) == 1011
