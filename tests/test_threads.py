"""A conversation that the provider keeps, and whose requests land on different replicas: values come back, and to nobody else."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import anthropic
import openai
import orjson
import pytest
from gateways import Gateway, until
from hypothesis import given
from hypothesis import strategies as st
from redis_servers import RedisServer, redis_server
from upstreams import Upstream, reply, upstream
from wires_support import target

from gateway import echo
from gateway.keys import Role
from gateway.redaction.vault import Vault
from gateway.screening.policy import Mode
from gateway.state import keystore

CARD = "4111 1111 1111 1111"
IBAN = "DE89 3704 0044 0532 0130 00"
SECRET = "0123456789abcdef0123456789abcdef"
STAND_IN = re.compile(r"\[PII_[A-Z_]+_[0-9A-F]{10}\]")

kept: dict[str, str] = {}
"""What the provider keeps of each conversation: all that it was sent."""


async def _answer(body: bytes, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A provider that keeps what it is sent, by the reply's id and the conversation's, and says all of it again."""
    doc = orjson.loads(body)
    conversation = (doc.get("conversation") or {}).get("id", "")
    if "messages" in doc:
        where = target("/v1/messages", b"")
        before = (doc.get("thread") or {}).get("previous_message_id", "")
        (message,) = doc["messages"]
        said = kept.get(before, "") + message["content"] + " "
        message["content"] = f"say:{said}"
    else:
        where = target("/v1/responses", b"")
        said = kept.get(doc.get("previous_response_id") or conversation, "") + doc["input"] + " "
        doc["input"] = f"say:{said}"
    whole = orjson.loads(echo.respond(where, doc).body)
    kept[whole["id"]] = said
    if conversation:
        kept[conversation] = said
    if not doc.get("stream"):
        writer.write(reply(orjson.dumps(whole)))
        return
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
    data = b"".join(echo.stream(where, doc))
    for at in range(0, len(data), 53):
        writer.write(b"%x\r\n%b\r\n" % (len(data[at : at + 53]), data[at : at + 53]))
        await writer.drain()
    writer.write(b"0\r\n\r\n")


class Two(NamedTuple):
    """Two gateways over one state; ``redis`` where that is one."""

    a: Gateway
    b: Gateway
    keys: dict[str, str]
    redis: RedisServer | None
    provider: Upstream

    def ask(self, gateway: Gateway, text: str, key: str = "app", **more: Any) -> tuple[str, str]:
        """The text of a reply, and its id."""
        with openai.OpenAI(api_key=self.keys[key], base_url=f"{gateway.url}/v1", max_retries=0) as client:
            if not more.pop("stream", False):
                whole = client.responses.create(model="m", input=text, **more)
                return whole.output_text, whole.id
            said, id = "", ""
            for event in client.responses.create(model="m", input=text, stream=True, **more):
                said += event.delta if event.type == "response.output_text.delta" else ""
                id = event.response.id if event.type == "response.completed" else id
            return said, id

    def write(self, gateway: Gateway, text: str, thread: dict[str, str] | None, stream: bool = False) -> tuple[str, str]:
        """The same of Anthropic's messages."""
        more: Any = {"model": "m", "max_tokens": 999, "messages": [{"role": "user", "content": text}]}
        if thread is not None:
            more["extra_body"] = {"thread": thread}
        with anthropic.Anthropic(api_key=self.keys["app"], base_url=gateway.url, max_retries=0) as client:
            if not stream:
                whole: Any = client.messages.create(**more)
                return whole.content[0].text, whole.id
            with client.messages.stream(**more) as events:
                return "".join(events.text_stream), events.get_final_message().id


@pytest.fixture(scope="module", params=["sqlite", "redis"])
def two(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    folder = tmp_path_factory.mktemp("threads")
    with redis_server(folder / "redis") as server, upstream(_answer) as provider:
        redis = server if request.param == "redis" else None
        url = redis.url if redis else f"sqlite:{folder}/state.db"
        tenants = {"app": "default", "other app": "default", "other tenant": "acme"}
        keys = {name: keystore.create(url, Role.APP, tenant, time.time()).token for name, tenant in tenants.items()}
        settings = {
            "state": url, "secret": SECRET, "limits": {"ready_grace_seconds": 0, "drain_seconds": 5},
            "upstreams": {
                "openai": {"base_url": provider.base_url, "api_key": "k"},
                "anthropic": {"base_url": provider.base_url.removesuffix("/v1"), "api_key": "k"},
            },
            "policy": {"preset": "balanced", "redaction": {"pii.bank": "format"}},
        }  # fmt: skip
        started = []
        for name in "ab":
            (folder / name).mkdir()
            started.append(Gateway(folder / name, settings, 1, {}))
        yield Two(*started, keys, redis, provider)
        for gateway in started:
            gateway.stop()


@pytest.mark.parametrize("stream", [False, True])
def test_a_value_comes_back_where_a_conversation_goes_on(two: Two, stream: bool) -> None:
    said, first = two.ask(two.a, f"stream {stream}, card {CARD}, account {IBAN}.", stream=stream)
    assert CARD in said
    assert CARD not in kept[first]
    assert IBAN not in kept[first]
    said, second = two.ask(two.b, "And now?", previous_response_id=first, stream=stream)
    assert f"card {CARD}, account {IBAN}." in said
    said, _ = two.ask(two.a, "Once more.", previous_response_id=second, stream=not stream)
    assert f"card {CARD}, account {IBAN}." in said
    assert all(CARD.encode() not in body for body in two.provider.bodies)


def test_a_conversation_keeps_what_each_of_its_requests_brought(two: Two) -> None:
    conversation = {"id": f"conv_{two.a.port}"}
    two.ask(two.a, f"card {CARD}.", conversation=conversation)
    two.ask(two.b, f"account {IBAN}.", conversation=conversation)
    said, _ = two.ask(two.a, "Both?", conversation=conversation)
    assert CARD in said
    assert IBAN in said


@pytest.mark.parametrize("stream", [False, True])
def test_a_value_comes_back_where_anthropic_keeps_the_conversation(two: Two, stream: bool) -> None:
    said, first = two.write(two.a, f"stream {stream}, card {CARD}.", {"type": "create"}, stream)
    assert CARD in said
    assert CARD not in kept[first]
    said, second = two.write(two.b, "And now?", {"type": "continue", "previous_message_id": first}, stream)
    assert f"card {CARD}." in said
    said, _ = two.write(two.a, "Once more.", {"type": "continue", "previous_message_id": second}, not stream)
    assert f"card {CARD}." in said


def test_what_anthropic_does_not_keep_is_not_kept_here(two: Two) -> None:
    _, first = two.write(two.a, f"The room was paid with card {CARD}.", None)
    said, _ = two.write(two.b, "And now?", {"type": "continue", "previous_message_id": first})
    assert CARD not in said


@pytest.mark.parametrize("key", ["other app", "other tenant"])
def test_nobody_else_gets_it_back(two: Two, key: str) -> None:
    _, first = two.ask(two.a, f"for {key}: card {CARD}.")
    said, _ = two.ask(two.b, "And now?", key, previous_response_id=first)
    assert CARD not in said
    assert STAND_IN.search(said)


def test_what_the_provider_does_not_keep_is_not_kept_here(two: Two) -> None:
    _, first = two.ask(two.a, f"The room was paid with card {CARD}.", store=False)
    said, _ = two.ask(two.b, "And now?", previous_response_id=first)
    assert CARD not in said


def test_the_store_holds_nothing_that_can_be_read_or_changed(two: Two) -> None:
    if two.redis is None:
        return
    with two.redis.client() as client:

        def kept_of(text: str) -> tuple[str, bytes, set[bytes]]:
            """The reply's id, the new name in the store, and the names that were there before."""
            before = set(client.keys("\\{portcullis}:fleeting:thread:*"))
            _, id = two.ask(two.a, text)
            until(lambda: len(client.keys("\\{portcullis}:fleeting:thread:*")) > len(before))
            (name,) = set(client.keys("\\{portcullis}:fleeting:thread:*")) - before
            return id, name, before

        kept_of(f"The garden chairs were paid with card {CARD}.")
        first, name, before = kept_of(f"The room was paid with card {CARD}.")
        sealed = client.get(name)
        assert 0 < client.pttl(name) <= 86_400_000
        for plain in (CARD, "4111", "PII", first, "default"):
            assert plain.encode() not in name + sealed
        client.set(name, client.get(before.pop()), keepttl=True)
    said, _ = two.ask(two.b, "And now?", previous_response_id=first)
    assert CARD not in said
    with two.b.client() as client:
        assert 'portcullis_thread_values_total{result="forged"} 1.0' in client.get("/metrics").text


def test_without_the_store_a_conversation_goes_on(two: Two) -> None:
    if two.redis is None:
        return
    _, first = two.ask(two.a, f"The booking was paid with card {CARD}.")
    with two.redis.client() as client:
        client.save()  # it has its keys again when it is back
    two.redis.stop()
    said, second = two.ask(two.b, f"And {IBAN}?", previous_response_id=first)
    assert CARD not in said
    assert IBAN in said  # its own value
    with two.b.client() as client:
        until(lambda: 'portcullis_thread_values_total{result="lost"} 1.0' in client.get("/metrics").text)
    two.redis.start()
    until(lambda: IBAN in two.ask(two.b, f"Back: {IBAN}.", previous_response_id=second)[0])


_values = st.dictionaries(st.sampled_from([CARD, IBAN, "536-90-4399", "jo@example.com"]), st.just("pii.payment"), max_size=4)


@given(_values, _values, st.sampled_from(Mode), st.booleans())
def test_what_a_vault_learns_comes_back_as_from_the_one_that_made_it(
    first: dict[str, str], second: dict[str, str], mode: Mode, restores: bool
) -> None:
    modes = {"pii": mode}
    made, later = Vault(b"key", modes, restores), Vault(b"key", modes, restores)
    texts = [made.stand_in(value, category) for value, category in first.items()]
    own = [later.stand_in(value, category) for value, category in second.items()]
    later.learn(made.values)
    text = " and ".join([*texts, *own])
    everything = Vault(b"key", modes, restores)
    for value, category in {**second, **first}.items():
        everything.stand_in(value, category)
    assert later.restore(text) == everything.restore(text)
    assert later.restore(f"https://x.example/?{' '.join(texts)}"[:60]) is not None
    assert {**later.values} == {**everything.values}
