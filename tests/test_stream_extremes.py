"""Streamed replies that are lawful and beyond all measure, through a real gateway: they end as they should, and have a record."""

from __future__ import annotations

import asyncio
import json
import re

import openai
import orjson
import pytest
from gateways import Gateway
from test_stream_forms import KEY, _ask, _frame, _Model, gateway, model, said
from upstreams import upstream

from gateway.wires.collecting import MAX_DEPTH, MAX_PARTS

__all__ = ["gateway", "model", "said"]  # the fixtures


def _calls(*calls: str) -> bytes:
    """The stream of a reply that makes these calls, each in pieces."""
    chunks = []
    for index, arguments in enumerate(calls):
        chunks.append({"index": index, "id": f"call_{index}", "type": "function", "function": {"name": "f", "arguments": ""}})
        chunks += [{"index": index, "function": {"arguments": arguments[at : at + 4_000]}} for at in range(0, len(arguments), 4_000)]
    head = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    choices = [{"index": 0, "delta": {"tool_calls": [call]}, "finish_reason": None} for call in chunks]
    choices.append({"index": 0, "delta": {}, "finish_reason": "tool_calls"})
    return b"".join(b"data: %b\n\n" % orjson.dumps({**head, "choices": [one]}) for one in choices) + b"data: [DONE]\n\n"


NUMBERS = json.dumps({"key": KEY, "numbers": list(range(10**7, 10**7 + MAX_PARTS // 2))})


@pytest.mark.parametrize("calls", [
    (json.dumps({"key": KEY, "numbers": list(range(10**7, 10**7 + MAX_PARTS))}),),
    (NUMBERS, NUMBERS),
    ('{"a":' * MAX_DEPTH * 2 + f'"{KEY}"' + "}" * MAX_DEPTH * 2,),
], ids=["more parts than a body may have", "two calls that have as many", "deeper than a body may be"])  # fmt: skip
def test_arguments_that_no_whole_reply_could_have(gateway: Gateway, model: _Model, calls: tuple[str, ...]) -> None:
    model.raw = _calls(*calls)
    told = [""] * len(calls)
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="unused", max_retries=0) as client:
        got = client.chat.completions.with_raw_response.create(model="m", messages=_ask(), stream=True)
        chunks = list(got.parse())
    for chunk in chunks:
        for call in chunk.choices[0].delta.tool_calls or []:
            told[call.index] += (call.function and call.function.arguments) or ""
    assert chunks[-1].choices[0].finish_reason == "tool_calls"
    for one, sent in zip(told, calls, strict=True):
        assert (KEY not in one, json.loads(one).keys()) == (True, json.loads(sent).keys())
    with gateway.client() as client_of_records:
        record = gateway.decision(client_of_records, got.headers["x-portcullis-id"])
    assert record["action"] == "redact"
    assert "secret.cloud_key" in {found["category"] for found in record["reply"]["findings"]}


def test_of_one_who_leaves_at_the_end_mark_all_that_he_was_told_is_recorded(gateway: Gateway, model: _Model) -> None:
    """Clients close a stream's connection when they have read its last event; a long reply is being looked at then."""
    said = "The market beside the harbour is open on Sundays. " * 4_000
    delta = {"index": 0, "delta": {"content": f"{said}The key is {KEY} and no more."}, "finish_reason": "stop"}
    doc = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [delta]}
    model.raw = b"data: %b\n\ndata: [DONE]\n\n" % orjson.dumps(doc)
    for _ in range(20):  # whether he leaves while it is looked at, or when it has been, is a race, and either may win it
        with gateway.client() as client, gateway.client() as other:
            asked = {"model": "m", "stream": True, "messages": _ask()}
            with client.stream("POST", "/v1/chat/completions", json=asked) as got:
                assert any(line == "data: [DONE]" for line in got.iter_lines())  # and no further
            record = gateway.decision(other, got.headers["x-portcullis-id"])
        assert (record["action"], record["reply"]["parts"][0]["length"]) == ("redact", len(delta["delta"]["content"]))  # type: ignore[index]
        if record["client_gone"]:
            return
    pytest.fail("he never left while it was looked at")


STAND_IN = re.compile(rb"\[PII_PAYMENT_[0-9A-F]{10}\]")


def _card(number: int) -> str:
    """A number of sixteen digits whose check digit fits."""
    digits = f"4{number * 7919:014d}"
    total = sum(sum(divmod(int(digit) * (2 - at % 2), 10)) for at, digit in enumerate(reversed(digits)))
    return digits + str(-total % 10)


async def _again(body: bytes, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Says all stand-ins of the request, cut anywhere."""
    said = b" ".join(STAND_IN.findall(body)).decode()
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")
    writer.writelines(_frame(said[at : at + 19]) for at in range(0, len(said), 19))
    writer.write(_frame("", "stop") + b"data: [DONE]\n\n")
    await writer.drain()
    writer.close()


def test_ten_thousand_stand_ins_come_back(tmp_path_factory: pytest.TempPathFactory) -> None:
    cards = [_card(number) for number in range(10_000)]
    asked = [{"role": "user", "content": "Cards:\n" + "\n".join(cards[at : at + 1_000])} for at in range(0, len(cards), 1_000)]
    with upstream(_again) as running:
        settings = {"limits": {"ready_grace_seconds": 0}, "detection": {"encoder": False},
                    "upstreams": {"openai": {"base_url": running.base_url}}}  # fmt: skip
        started = Gateway(tmp_path_factory.mktemp("many"), settings, 1, {})
        try:
            with openai.OpenAI(base_url=f"{started.url}/v1", api_key="unused", max_retries=0) as client:
                chunks = list(client.chat.completions.create(model="m", messages=asked, stream=True))  # type: ignore[call-overload]
        finally:
            started.stop()
    assert not any(card.encode() in body for body in running.bodies for card in cards)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == " ".join(cards)
