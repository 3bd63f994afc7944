"""Bounds of realtime sessions: how many, how long, how much, and what a strict policy lets pass."""

from __future__ import annotations

import base64
import json
import signal
import threading
import time
from pathlib import Path

import pytest
from conftest import StartGateway
from realtime_support import SECRET, Provider, begin, closing, create, delta, dial, done, hear, metrics_of, say
from websockets.exceptions import InvalidStatus
from websockets.sync.server import ServerConnection
from websockets.typing import Subprotocol

from gateway.keys import Role
from gateway.state import keystore


def test_more_sessions_than_may_be_are_refused_and_silent_ones_end(start_gateway: StartGateway) -> None:
    gateway = start_gateway(
        detection={"encoder": False}, limits={"drain_seconds": 2},
        realtime={"sessions": 1, "idle_seconds": 3, "total_seconds": 60},
    )  # fmt: skip
    with dial(gateway) as session:
        hear(session, "session.created")
        with pytest.raises(InvalidStatus) as caught:
            dial(gateway)
        assert caught.value.response.status_code == 503
        assert caught.value.response.headers["retry-after"] == "1"
        assert hear(session, "error")["error"]["code"] == "session_expired"
        assert closing(session) == 1001
    with dial(gateway) as session:
        hear(session, "session.created")
        began = time.monotonic()
        gateway.signal(signal.SIGTERM)
        assert closing(session) == 1001
        assert time.monotonic() - began < 10
    assert gateway.stop() == 0


def test_responses_count_as_requests_of_the_tenant(start_gateway: StartGateway, provider: Provider) -> None:
    upstream = {"base_url": provider.base_url, "attempts": 1}
    gateway = start_gateway(
        detection={"encoder": False}, upstreams={"openai": upstream},
        tenants={"default": {"rate_limits": {"requests_per_minute": 4}}},
    )  # fmt: skip
    more = threading.Event()

    def script(server: ServerConnection) -> None:
        hear(server, "response.create")
        say(server, *begin(), done(), *begin("own", "own"), delta("I heard you.", "own", "own"), done("own"))
        hear(server, "response.create")
        say(server, *begin("r2", "i2"), done("r2"))
        assert more.wait(30)
        say(server, *begin("r3", "i3"))
        hear(server, "response.cancel")
        say(server, done("r3"))
        closing(server)

    with provider.plays(script), dial(gateway) as session:
        say(session, {"type": "response.create"})
        hear(session, "response.done")
        hear(session, "response.done")
        say(session, {"type": "response.create"})
        hear(session, "response.done")
        say(session, {"type": "response.create", "event_id": "mine"})
        error = hear(session, "error")["error"]
        assert (error["type"], error["code"], error["event_id"]) == ("rate_limit_error", "rate_limit_exceeded", "mine")
        assert "this tenant may use 4 requests a minute; try again in" in error["message"]
        more.set()
        assert hear(session, "error")["error"]["code"] == "rate_limit_exceeded", "the server began one by itself"
        assert hear(session, "response.done")["response"]["id"] == "r3"
        with pytest.raises(InvalidStatus) as caught:
            dial(gateway)
        assert caught.value.response.status_code == 429
    assert provider.over.wait(10)
    assert [event["type"] for event in provider.seen] == ["response.create", "response.create", "response.cancel"]
    assert 'portcullis_limited_total{limit="tenant_requests",tenant="default"} 3.0' in metrics_of(gateway)


def test_bytes_of_a_session_are_counted_while_it_lasts(start_gateway: StartGateway, provider: Provider) -> None:
    upstream = {"base_url": provider.base_url, "attempts": 1}
    gateway = start_gateway(
        detection={"encoder": False}, upstreams={"openai": upstream},
        tenants={"default": {"rate_limits": {"bytes_per_minute": 20_000}}},
    )  # fmt: skip
    with provider.plays(closing), dial(gateway) as session:
        say(session, {"type": "response.create"}, {"type": "input_audio_buffer.append", "audio": "QUJD" * 6_000},
            {"type": "response.create", "event_id": "mine"})  # fmt: skip
        error = hear(session, "error")["error"]
        assert (error["code"], error["event_id"]) == ("rate_limit_exceeded", "mine")
        assert "20000 bytes" in error["message"]
        with gateway.client() as client:
            assert client.post("/v1/chat/completions", json={"model": "m", "messages": []}).status_code == 429


def test_tokens_of_a_session_are_counted_as_the_provider_tells_them(start_gateway: StartGateway, provider: Provider) -> None:
    upstream = {"base_url": provider.base_url, "attempts": 1}
    gateway = start_gateway(
        detection={"encoder": False}, upstreams={"openai": upstream},
        tenants={"default": {"rate_limits": {"tokens_per_minute": 1_000}}},
    )  # fmt: skip

    def script(server: ServerConnection) -> None:
        for name in ("r1", "r2"):
            hear(server, "response.create")
            last = done(name)
            last["response"]["usage"] = {"input_tokens": 400, "output_tokens": 200, "total_tokens": 600}
            say(server, *begin(name, f"i {name}"), last)
        closing(server)

    with provider.plays(script), dial(gateway) as session:
        for _ in range(2):
            say(session, {"type": "response.create"})
            hear(session, "response.done")
        say(session, {"type": "response.create", "event_id": "mine"})
        error = hear(session, "error")["error"]
        assert (error["code"], error["event_id"]) == ("rate_limit_exceeded", "mine")
        assert "1000 tokens" in error["message"]


def test_one_tenant_holds_half_of_the_sessions(start_gateway: StartGateway, tmp_path: Path) -> None:
    state = f"sqlite:{tmp_path}/state.db"
    keys = [keystore.create(state, Role.APP, tenant, time.time()).token for tenant in ("one", "two")]
    one, two = ({"additional_headers": {"authorization": f"Bearer {key}"}} for key in keys)
    gateway = start_gateway(detection={"encoder": False}, state=state, realtime={"sessions": 3})
    with dial(gateway, **one), dial(gateway, **one):
        with pytest.raises(InvalidStatus) as caught:
            dial(gateway, **one)
        assert caught.value.response.status_code == 429
        with dial(gateway, **two) as session:
            hear(session, "session.created")


def test_strict_takes_no_event_that_it_does_not_know_and_plays_no_audio_before_its_transcript(start_gateway: StartGateway) -> None:
    gateway = start_gateway(policy="strict")
    with gateway.client() as client:
        operator = client.post("/admin/v1/keys", json={"tenant": "*", "role": "operator"}).json()["token"]
    managing = {"authorization": f"Bearer {operator}"}
    with gateway.client(headers=managing) as client:
        made = client.post("/admin/v1/keys", json={"tenant": "default", "role": "app"}).json()
    token = made["token"]
    with pytest.raises(InvalidStatus) as caught:
        dial(gateway)
    assert caught.value.response.status_code == 401
    page = [Subprotocol("realtime"), Subprotocol(f"openai-insecure-api-key.{token}")]
    with dial(gateway, subprotocols=page, origin="https://app.example") as session:
        assert session.subprotocol == "realtime"
        hear(session, "session.created")
        say(session, {"type": "brand.new", "words": "good morning"})
        assert hear(session, "error")["error"]["code"] == "unknown_event"
        say(session, create("say:It is a fine day in the harbour."), {"type": "response.create"})
        kinds = []
        while not kinds or kinds[-1] != "response.done":
            kinds.append(json.loads(session.recv(timeout=30))["type"])
        assert kinds.index("response.output_audio.delta") > kinds.index("response.output_audio_transcript.done")
        words = base64.b64encode(f"say:It is {SECRET}, as you know.".encode()).decode()
        say(session, {"type": "input_audio_buffer.append", "audio": words}, {"type": "input_audio_buffer.commit"},
            {"type": "response.create"})  # fmt: skip
        kinds = []
        while not kinds or kinds[-1] != "response.done":
            kinds.append(json.loads(session.recv(timeout=30))["type"])
        assert not any("output_audio." in kind for kind in kinds), "what was redacted in writing is not heard"
        with gateway.client(headers={"authorization": f"Bearer {token}"}) as client:
            assert client.get("/v1/realtime").status_code == 426
        with gateway.client(headers=managing) as client:
            assert client.delete(f"/admin/v1/keys/{made['id']}").is_success
        assert hear(session, "error")["error"]["code"] == "invalid_api_key"
        assert closing(session) == 1008


def test_a_session_ends_when_its_time_is_up_whatever_is_said(start_gateway: StartGateway) -> None:
    gateway = start_gateway(
        detection={"encoder": False}, limits={"drain_seconds": 2}, realtime={"idle_seconds": 60, "total_seconds": 2}
    )
    with dial(gateway) as session:
        hear(session, "session.created")
        say(session, {"type": "input_audio_buffer.clear"})
        error = hear(session, "error")["error"]
        assert error["code"] == "session_expired"
        assert error["message"] == "a session may last 2 seconds"
        assert closing(session) == 1001



def test_what_has_ended_is_not_waited_for(start_gateway: StartGateway) -> None:
    """A session that is over is let go: it holds no memory, and a gateway that ends does not wait for it."""
    gateway = start_gateway()
    for _ in range(2):
        with dial(gateway) as session:
            hear(session, "session.created")
    gateway.stop()
    assert [line for line in gateway.log if line["message"] == "Shutting down"]
    assert not [line for line in gateway.log if line["message"].startswith("Waiting for connections")]
