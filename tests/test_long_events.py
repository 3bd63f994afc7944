"""An event of a server that takes seconds to be screened: others go on meanwhile, and whoever leaves is not waited for."""

from __future__ import annotations

import json
import re
import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import StartGateway
from gateways import Gateway, until
from realtime_support import CARD, Provider, begin, closing, delta, dial, done, hear, metrics_of, say
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection

CARDS = 10_000
LONG = f"pay with {CARD} now, " * CARDS
"""Nothing takes longer to look at than values: these 310,000 characters some seconds, and minutes if they were looked at as one."""


class Speaks:
    """Answers each `response.create`: with the long text where its metadata say so, or a short one."""

    def __init__(self) -> None:
        self.said = threading.Event()

    def __call__(self, server: ServerConnection) -> None:
        for message in server:
            long = "metadata" in json.loads(message)["response"]
            say(server, *begin(), delta(LONG if long else "Good morning."), done())
            if long:
                self.said.set()


def ask(session: Any, long: bool) -> None:
    say(session, {"type": "response.create", "response": {"metadata": {"long": "yes"}} if long else {}})


def answer(session: Any) -> str:
    """The text of the next response."""
    text = ""
    while (event := json.loads(session.recv(timeout=180)))["type"] != "response.done":
        text += event.get("delta", "")
    return text


@pytest.fixture(scope="module")
def gateway(provider: Provider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    settings = {"limits": {"ready_grace_seconds": 0}, "detection": {"encoder": False},
                "upstreams": {"openai": {"base_url": provider.base_url, "attempts": 1}}}  # fmt: skip
    running = Gateway(tmp_path_factory.mktemp("long"), settings, 1, {})
    yield running
    running.stop()


def test_other_sessions_go_on_and_all_that_is_redacted_is(gateway: Gateway, provider: Provider) -> None:
    heard: list[str] = []
    with provider.plays(Speaks()), dial(gateway) as one, dial(gateway) as other:
        ask(other, False)
        hear(other, "response.done")
        ask(one, True)
        waiting = threading.Thread(target=lambda: heard.append(answer(one)))
        waiting.start()
        turns = 0
        while not heard and turns < 5:
            ask(other, False)
            hear(other, "response.done")
            turns += 1
        assert not heard, "it takes longer than five turns of another session"
        waiting.join()
    assert re.sub(r"\[PII_PAYMENT_\w+\]", CARD, heard[0]) == LONG
    assert CARD not in heard[0]


@pytest.mark.parametrize("orderly", [True, False])
def test_a_client_who_leaves_in_the_middle_ends_the_session(gateway: Gateway, provider: Provider, orderly: bool) -> None:
    speaks = Speaks()
    with provider.plays(speaks):
        session = dial(gateway)
        ask(session, True)
        assert speaks.said.wait(20)
        if orderly:
            session.close()
        else:
            session.socket.close()
        assert provider.over.wait(20)
        until(lambda: "portcullis_realtime_sessions 0.0" in metrics_of(gateway), 20)


def test_a_drain_does_not_wait_for_it(start_gateway: StartGateway, provider: Provider) -> None:
    speaks = Speaks()
    upstreams = {"openai": {"base_url": provider.base_url, "attempts": 1}}
    gateway = start_gateway(detection={"encoder": False}, upstreams=upstreams, limits={"drain_seconds": 2})
    with provider.plays(speaks), dial(gateway) as session:
        ask(session, True)
        assert speaks.said.wait(20)
        gateway.signal(signal.SIGTERM)
        assert closing(session) == 1001
        assert provider.over.wait(20)
    assert gateway.stop() == 0


def test_the_server_is_paused_meanwhile(gateway: Gateway, provider: Provider) -> None:
    sent = 0

    def script(server: ServerConnection) -> None:
        nonlocal sent
        message = json.dumps({"type": "response.output_audio.delta", "event_id": "e", "response_id": "r", "item_id": "i",
                              "content_index": 0, "delta": "QUJD" * 12_000})  # fmt: skip
        say(server, *begin(), delta(LONG))
        try:
            while sent < 64 * 2**20:
                server.send(message)
                sent += len(message)
        except ConnectionClosed:
            pass

    with provider.plays(script):
        with dial(gateway) as session:
            hear(session, "response.output_text.delta", 180)
            assert sent < 32 * 2**20
        assert provider.over.wait(20)
