"""Where a reply's text is edited, the probabilities of its tokens do not tell what stood there."""

from __future__ import annotations

import orjson
import pytest
from gateways import CACHE_DIR
from wires_support import CHAT, GENERATE, target

from detectors.engine import Engine
from gateway import live
from gateway.live import Bound
from gateway.redaction.vault import Vault
from gateway.screening.inspection import Inspected, inspect_reply
from gateway.screening.policy import Action, preset
from gateway.wires.probabilities import without_probabilities
from patterns.schema import State

TOKEN = "AKIAZ7QK3LMNP4RSTUVW"  # of nobody


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine.load([one for one in live.load_patterns((), CACHE_DIR) if one.state is State.ACTIVE], 1, 0.0, CACHE_DIR)


def _chat(said: str, key: str, token: str) -> bytes:
    message = orjson.dumps({"role": "assistant", "content": said}).decode()
    told = orjson.dumps({"content": [{"token": token, "logprob": -0.1}]}).decode()
    return f'{{"id":"c","object":"chat.completion","choices":[{{"index":0,"message":{message},"{key}":{told}}}]}}'.encode()


def _gemini(said: str, key: str, token: str) -> bytes:
    content = orjson.dumps({"role": "model", "parts": [{"text": said}]}).decode()
    told = orjson.dumps({"chosenCandidates": [{"token": token}]}).decode()
    return f'{{"candidates":[{{"content":{content},"{key}":{told}}}]}}'.encode()


CASES = [
    (CHAT, _chat, "logprobs"), (CHAT, _chat, "logpr\\u006fbs"),
    (GENERATE, _gemini, "logprobsResult"), (GENERATE, _gemini, "\\u006cogprobsResult"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "make", "key"), CASES)
def test_a_whole_reply_that_is_redacted_loses_them(engine: Engine, path: str, make: object, key: str) -> None:
    assert callable(make)
    for said, token, action in (
        (f"Your key is {TOKEN} and so on.", TOKEN, Action.REDACT),
        ("Nothing of interest.", TOKEN, Action.REDACT),
        ("Nothing of interest.", "Nothing's ", Action.ALLOW),
    ):
        body = make(said, key, token)
        found = inspect_reply(engine, Bound(preset("balanced"), None, {}), target(path), body, "t", Vault(b"k" * 32), None)
        assert isinstance(found, Inspected)
        assert found.ruling.action is action
        assert len(found.parsed.segments) == 1 + (token == TOKEN)  # a token alone is nothing to judge
        assert found.body == body if action is Action.ALLOW else TOKEN.encode() not in found.body


def test_a_body_without_any_stays_as_it_is() -> None:
    for body in (b'{"a": 1.0}', b'{"choices": [{"logprobs": null}]}', b'{"logprobs": [], "e": "\\u00e9"}'):
        assert without_probabilities(body) is body


def test_whatever_else_stands_there_stays_however_deep_it_is() -> None:
    deep = b'{"a":[' * 600 + b'1e400, "\\"logprobs\\":", "logprobs"' + b"]}" * 600
    body = b'{ "x":%b , "logprobs" :\n{"token":"a", "l": [%b]}, "y":{"logprobs":["a" ]} }'
    assert without_probabilities(body % (deep, deep)) == b'{ "x":%b , "logprobs" :\nnull, "y":{"logprobs":[]} }' % deep
