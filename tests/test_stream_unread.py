"""What a stream carries that nobody reads, and what stands beside it."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from test_relay import ACTING, KEY, SECRET, _chunk, _refusal, _target
from wires_support import sse_events

from gateway.redaction.vault import Vault
from gateway.streams.relay import Relay
from gateway.streams.sound import WITHHELD, Sound
from gateway.wires.base import MAX_CHOICES, Malformed
from gateway.wires.events import sse

SPOKEN = {"output_index": 0}
IMAGE = {"type": "image_generation_call", "id": "i", "result": "QUJD"}


def _audio(audio: dict[str, Any]) -> bytes:
    return _chunk({"audio": audio})


def _event(kind: str, **more: Any) -> bytes:
    return sse(orjson.dumps({"type": kind, **more}), kind.encode())


def _relayed(name: str, data: bytes, waits: bool = False) -> tuple[bytes, dict[str, str]]:
    relay = Relay(_target(name), "m", ACTING, Vault(KEY), sound=Sound(waits))
    out = relay.feed(data, _refusal) + relay.end(_refusal)
    return out, {".".join(map(str, channel)): why for channel, why in relay.unheard.items()}


@pytest.mark.parametrize(
    ("name", "data", "told"),
    [
        ("chat", _audio({"data": "QUJD"}) * 3, {"0.audio.data": "audio"}),
        ("responses", _event("response.audio.delta", delta="QUJD"), {"response.audio.transcript.delta": "audio"}),
        ("responses", _event("response.image_generation_call.partial_image", **SPOKEN, partial_image_b64="QUJD"),
            {"0.response.image_generation_call.partial_image": "image"}),
        ("responses", _event("response.output_item.done", item=IMAGE), {"item.result": "image"}),
        ("messages", _event("content_block_start", index=0, content_block={"type": "redacted_thinking", "data": "QUJD"}),
            {"content_block": "encrypted"}),
        ("gemini-sse", sse(orjson.dumps({"candidates": [{"content": {"parts": [{"inlineData": {"mimeType": "image/png", "data": "QUJD"}}]}}]})),
            {"candidates.0.content.parts.0.inlineData": "image"}),
    ],
)  # fmt: skip
def test_what_nobody_reads_is_told_and_passes(name: str, data: bytes, told: dict[str, str]) -> None:
    assert _relayed(name, data) == (data, told)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("chat", _audio({"id": "a", "transcript": "Yes.", "data": "QUJD", "note": SECRET})),
        ("responses", _event("response.audio.delta", delta="QUJD", note=SECRET)),
        ("responses", _event("response.image_generation_call.partial_image", partial_image_b64="QUJD", note=SECRET)),
    ],
)
def test_what_stands_beside_it_is_read(name: str, data: bytes) -> None:
    out, _ = _relayed(name, data)
    assert SECRET.encode() not in out
    assert b"QUJD" in out


def test_a_policy_that_waits_lets_no_audio_out_of_which_something_was_taken() -> None:
    said = _event("response.audio.transcript.delta", **SPOKEN, delta=f"It is {SECRET} now.")
    done = _event("response.audio.transcript.done", **SPOKEN)
    out, told = _relayed("responses", _event("response.audio.delta", **SPOKEN, delta="QUJD") + said + done, True)
    assert b"QUJD" not in out
    assert told == {"0.response.audio.transcript.delta": WITHHELD}
    out, told = _relayed("chat", _audio({"transcript": "Yes.", "data": "QUJD"}), True)
    (doc,) = sse_events(out)
    assert doc["choices"][0]["delta"]["audio"] == {"transcript": "Yes.", "data": ""}
    assert told == {"0.audio.data": WITHHELD}


MANY = {
    "chat": lambda number: _chunk({}, number),
    "completions": lambda number: sse(orjson.dumps({"choices": [{"index": number, "text": ""}]})),
    "messages": lambda number: _event("content_block_start", index=number, content_block={"type": "text", "text": ""}),
    "gemini-sse": lambda number: sse(orjson.dumps({"candidates": [{"index": number, "content": {"parts": []}}]})),
}


@pytest.mark.parametrize("name", MANY)
def test_one_who_begins_choices_for_ever_is_stopped(name: str) -> None:
    relay = Relay(_target(name), "m", ACTING, Vault(KEY))
    relay.feed(b"".join(map(MANY[name], range(MAX_CHOICES))), _refusal)
    with pytest.raises(Malformed):
        relay.feed(b"".join(map(MANY[name], range(MAX_CHOICES, MAX_CHOICES + 2))), _refusal)


def test_a_policy_that_waits_plays_what_was_judged() -> None:
    said = _event("response.audio.transcript.delta", **SPOKEN, delta="It is noon.")
    sound = _event("response.audio.delta", **SPOKEN, delta="QUJD")
    out, told = _relayed("responses", sound + said + _event("response.audio.transcript.done", **SPOKEN), True)
    assert [doc["type"] for doc in sse_events(out)] == [
        "response.audio.transcript.delta", "response.audio.transcript.done", "response.audio.delta"
    ]  # fmt: skip
    assert told == {"0.response.audio.transcript.delta": "audio"}
