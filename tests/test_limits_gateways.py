"""Limits of tenants and keys on real gateways, over both stores."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import anthropic
import httpx
import openai
import pytest
from gateways import Gateway, until
from redis_servers import RedisServer, redis_server

from gateway.keys import Role
from gateway.state import keystore

CHAT = "/v1/chat/completions"
HELLO = {"model": "m", "messages": [{"role": "user", "content": "Hello!"}]}
TENANTS = {
    "few": {"rate_limits": {"requests_per_minute": 5}},
    "small": {"rate_limits": {"bytes_per_minute": 2_000}},
    "wordy": {"rate_limits": {"tokens_per_minute": 400}},
    "keyed": {"key_rate_limits": {"requests_per_minute": 3}},
    "gone": {"rate_limits": {"requests_per_minute": 40}},
    "free": {"policy": "monitor"},
}
KEYS = ("few", "small", "wordy", "keyed", "keyed again", "gone", "free")


class Pair(NamedTuple):
    """Two gateways on one Redis, or one of two workers on SQLite, which is both of them."""

    a: Gateway
    b: Gateway
    keys: dict[str, str]
    redis: RedisServer | None

    def post(self, gateway: Gateway, key: str, path: str = CHAT, body: object = HELLO) -> httpx.Response:
        with gateway.client(headers={"authorization": f"Bearer {self.keys[key]}"}) as client:
            return client.post(path, json=body)

    def went(self, gateway: Gateway, key: str) -> int:
        """How many requests go through before one is refused."""
        for number in range(1_000):
            if self.post(gateway, key).status_code == 429:
                return number
        raise AssertionError("none was refused")


@pytest.fixture(scope="module", params=["sqlite", "redis"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    folder = tmp_path_factory.mktemp("limits")
    with redis_server(folder / "redis") as server:
        redis = server if request.param == "redis" else None
        url = redis.url if redis else f"sqlite:{folder}/state.db"
        keys = {name: keystore.create(url, Role.APP, name.split()[0], time.time()).token for name in KEYS}
        settings = {"state": url, "tenants": TENANTS, "limits": {"ready_grace_seconds": 0, "drain_seconds": 5}}
        started = []
        for name in "ab" if redis else "a":
            (folder / name).mkdir()
            started.append(Gateway(folder / name, settings, 1 if redis else 2, {}))
        yield Pair(started[0], started[-1], keys, redis)
        for gateway in started:
            gateway.stop()


def test_what_one_let_through_the_other_counts(pair: Pair) -> None:
    went = pair.went(pair.a, "few")
    assert 5 <= went <= 10  # each of two workers may go on until it asks
    until(lambda: all(pair.post(pair.b, "few").status_code == 429 for _ in range(10)))
    answers = [pair.post(pair.b, "few") for _ in range(10)]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert went + len(answers) - len(refused) <= 10  # one that was not asked for a while knows less until it asks
    assert refused
    for answer in refused:
        assert 1 <= int(answer.headers["retry-after"]) <= 120
        assert answer.json()["error"]["code"] == "rate_limit_exceeded"
        assert "this tenant may use 5 requests a minute" in answer.json()["error"]["message"]
    assert pair.post(pair.a, "free").status_code == 200


def _again(call: Callable[[], object]) -> None:
    """Until it raises: a worker that was not asked for a while may let one more go."""
    for _ in range(10):
        call()


def test_a_refusal_is_what_each_client_takes_for_one(pair: Pair) -> None:
    until(lambda: all(pair.post(pair.a, "few").status_code == 429 for _ in range(10)))
    key = pair.keys["few"]
    ours, theirs = openai.OpenAI(api_key=key, base_url=pair.a.url + "/v1", max_retries=0), anthropic.Anthropic(
        api_key=key, base_url=pair.a.url, max_retries=0)  # fmt: skip
    with pytest.raises(openai.RateLimitError):
        _again(lambda: ours.chat.completions.create(**HELLO))  # type: ignore[call-overload]
    with pytest.raises(anthropic.RateLimitError):
        _again(lambda: theirs.messages.create(max_tokens=5, **HELLO))  # type: ignore[call-overload]
    body = {"contents": [{"parts": [{"text": "Hello!"}]}]}
    answers = (pair.post(pair.a, "few", "/v1beta/models/m:generateContent", body) for _ in range(10))
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert refused.json()["error"]["status"] == "RESOURCE_EXHAUSTED"
    with pair.a.client() as client:
        until(lambda: 'portcullis_limited_total{limit="tenant_requests",tenant="few"}' in client.get("/metrics").text)


def test_bytes_of_requests_and_replies_are_counted(pair: Pair) -> None:
    long = {"model": "m", "messages": [{"role": "user", "content": "Hello! " * 200}]}
    assert pair.post(pair.a, "small", body=long).status_code == 200  # there was room when it began
    until(lambda: pair.post(pair.b, "small").status_code == 429)
    until(lambda: "2000 bytes" in pair.post(pair.a, "small").text)  # the other worker may be told only with this one


def test_tokens_are_counted_as_providers_tell_them(pair: Pair) -> None:
    """The echo model tells a token for each word, of the request and of its reply."""
    said = "Please list what stands in " + ", ".join(f"room {number}" for number in range(20))
    body = {"model": "m", "messages": [{"role": "user", "content": said}]}
    told = pair.post(pair.a, "wordy", body=body).json()["usage"]["total_tokens"]
    assert told >= 80, "each word of ours and of the answer, which repeats it"
    streamed = {**body, "stream": True, "stream_options": {"include_usage": True}}
    paths = [(CHAT, streamed), ("/v1/messages", {**body, "max_tokens": 500, "stream": True}), ("/v1/responses", {"model": "m", "input": said})]
    for path, one in paths:
        assert pair.post(pair.b, "wordy", path, one).status_code == 200
    until(lambda: pair.post(pair.a, "wordy", body=body).status_code == 429)
    until(lambda: pair.post(pair.b, "wordy", body=body).status_code == 429)
    until(lambda: "400 tokens of requests and replies a minute" in pair.post(pair.a, "wordy", body=body).text)
    counted = pair.a.client()
    until(lambda: 'portcullis_limited_total{limit="tenant_tokens",tenant="wordy"}' in counted.get("/metrics").text)
    counted.close()


def test_each_key_has_a_limit_of_its_own(pair: Pair) -> None:
    assert 3 <= pair.went(pair.a, "keyed") <= 6
    assert 3 <= pair.went(pair.b, "keyed again") <= 6


def test_while_redis_is_gone_each_keeps_to_its_share_and_says_so(pair: Pair) -> None:
    server = pair.redis
    if server is None:
        return  # SQLite is a file of the same machine
    for said in (2, 4):  # each knows of the other from what it is answered once both have said something
        for gateway in (pair.a, pair.b):
            assert pair.post(gateway, "gone").status_code == 200
        until(partial(counted, server, "gone", said))
    with pair.a.client() as client:
        assert client.get("/readyz").json()["limits"] == "counted together"
        time_of_day = time.time() % 60
        with server.client() as redis:
            redis.save()  # it comes back with its keys
        server.stop()
        until(lambda: pair.post(pair.a, "gone") and "share" in client.get("/readyz").json()["limits"])
        until(lambda: pair.post(pair.b, "gone") and shared(pair.b))
        for gateway in (pair.a, pair.b):
            assert pair.went(gateway, "gone") <= 20 * (1 if time.time() % 60 > time_of_day else 2)
        assert client.get("/readyz").json()["limits"] == "the state is gone: each worker keeps to its share, down to 1/2 of a limit"
        server.start()
        until(lambda: pair.post(pair.a, "gone") and client.get("/readyz").json()["limits"] == "counted together")


def counted(server: RedisServer, tenant: str, requests: int) -> bool:
    """Whether the store was told of so many requests of a tenant."""
    with server.client() as redis:
        names = redis.scan_iter(match=f"*:limit:tenant:{tenant}:requests:*")
        return sum(int(each) for name in names for each in redis.hvals(name)) == requests


def shared(gateway: Gateway) -> bool:
    with gateway.client() as client:
        return 'portcullis_limits_decided_total{by="share"} 0.0' not in client.get("/metrics").text
