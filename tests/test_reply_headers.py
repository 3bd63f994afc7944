"""Headers of an upstream's reply: a value in one stays, and none has a client read the body as another text than was screened."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from gateways import Gateway
from openai import OpenAI
from test_gateway import ANSWER, CHAT, HELLO
from upstreams import Answer, Upstream, reply, says

KEY = "AKIAQ2W3E4R5T6Y7U8I9"
UTF7 = f"+{base64.b64encode(KEY.encode('utf-16-be')).decode().rstrip('=')}-"
CHUNK = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m",
         "choices": [{"index": 0, "delta": {"content": f"it is {UTF7} "}, "finish_reason": None}]}  # fmt: skip

ORDINARY = [
    (b"x-request-id", b"req_0f8a7c6d5e4b3a2918f7e6d5c4b3a291"), (b"openai-organization", b"user-9k2m4n6p8q1r3s5t7v9w"),
    (b"openai-processing-ms", b"412"), (b"openai-version", b"2020-10-01"), (b"openai-project", b"proj_Zk3Ym8Qa1Lw5Rt7Vb2Nc4Xd6"),
    (b"x-ratelimit-limit-tokens", b"30000000"), (b"x-ratelimit-reset-tokens", b"6ms"), (b"retry-after", b"20"),
    (b"cf-ray", b"8f2a7c1d2e3f4a5b-FRA"), (b"cf-cache-status", b"DYNAMIC"), (b"server", b"cloudflare"), (b"via", b"1.1 google"),
    (b"request-id", b"req_011CSHoEeqs5C35K2UUqR7Fy"), (b"anthropic-organization-id", b"8f14e45f-ceea-467f-a0e6-1b2c3d4e5f60"),
    (b"anthropic-ratelimit-tokens-reset", b"2025-11-28T11:22:33Z"), (b"apim-request-id", b"d4e5f607-1829-4a3b-8c4d-5e6f70819203"),
    (b"azureml-model-session", b"d20251128112233-4f5a6b7c"), (b"x-ms-region", b"Sweden Central"), (b"x-envoy-upstream-service-time", b"411"),
    (b"x-amzn-requestid", b"3c4d5e6f-7081-4293-a4b5-c6d7e8f90a1b"), (b"vary", b"Origin, X-Origin, Referer"), (b"x-xss-protection", b"0"),
    (b"server-timing", b"gfet4t7; dur=1174"), (b"last-modified", b"Fri, 28 Nov 2025 11:22:33 GMT"), (b"etag", b'"9b2cf535f27731c9"'),
]  # fmt: skip
GIVING = [(b"x-request-id", KEY.encode()), (b"openai-organization", b"it is " + KEY.encode()), (b"4111-1111-1111-1111", b"x"),
          (b"location", b"https://x.example/?k=" + KEY.encode()), (b"x-note", b"4111 1111 1111 1111")]  # fmt: skip


def _lines(headers: list[tuple[bytes, bytes]]) -> list[bytes]:
    return [b": ".join(pair) for pair in headers]


def _stream(kind: bytes, data: bytes, *headers: bytes) -> Answer:
    async def answer(_body: bytes, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines = b"\r\n".join([b"HTTP/1.1 200 OK", b"content-type: " + kind, *headers, b"content-length: %d" % len(data)])
        writer.write(lines + b"\r\n\r\n" + data)

    return answer


class Scene:
    """An upstream whose next answer a test chooses, behind a gateway of a policy."""

    def __init__(self, folder: Path, policy: str) -> None:
        self.answer: Answer = says(b"")
        self.upstream = Upstream(lambda *connection: self.answer(*connection))
        base = self.upstream.base_url.removesuffix("/v1")
        self.gateway = Gateway(folder, {
            "limits": {"ready_grace_seconds": 0}, "policy": policy,
            "upstreams": {"openai": {"base_url": f"{base}/v1", "attempts": 1}, "gemini": {"base_url": base, "attempts": 1}},
        }, 1, {})  # fmt: skip

    def ask(self, answer: Answer, path: str = CHAT, **fields: Any) -> httpx.Response:
        self.answer = answer
        with self.gateway.client() as client:
            return client.post(path, json={**HELLO, **fields})


@pytest.fixture(scope="module", params=["balanced", "strict"])
def scene(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    made = Scene(tmp_path_factory.mktemp("headers"), request.param)
    yield made
    made.gateway.stop()
    made.upstream.stop()


WHOLE, DATA = orjson.dumps(ANSWER), b"data: [DONE]\n\n"
ANSWERS = {
    "whole": lambda lines: says(reply(WHOLE, b"200 OK", *lines)),
    "an error": lambda lines: says(reply(b'{"error":{"message":"m"}}', b"400 Bad Request", *lines)),
    "an error page": lambda lines: says(reply(b"<p>", b"400 Bad Request", *lines, kind=b"text/html")),
    "nothing": lambda lines: says(b"\r\n".join([b"HTTP/1.1 204 No Content", *lines]) + b"\r\n\r\n"),
    "a stream": lambda lines: _stream(b"text/event-stream", DATA, *lines),
}


@pytest.mark.parametrize("what", ANSWERS)
def test_a_value_in_a_header_stays_and_other_headers_pass(scene: Scene, what: str) -> None:
    got = scene.ask(ANSWERS[what](_lines(ORDINARY + GIVING)), stream=what == "a stream")
    kept = what in ("whole", "an error", "nothing")  # the very bytes received, of which an `etag` tells
    wanted = [pair for pair in ORDINARY if kept or pair[0] != b"etag"]
    assert [pair for pair in got.headers.raw if pair in ORDINARY] == wanted
    assert KEY not in str(got.headers)
    assert "4111" not in str(got.headers)


def test_what_openai_shows_of_a_request(scene: Scene) -> None:
    client = OpenAI(api_key="k", base_url=f"{scene.gateway.url}/v1", max_retries=0)
    for value, shown in ((KEY.encode(), None), (b"req_1", "req_1")):
        scene.answer = says(reply(WHOLE, b"200 OK", b"x-request-id: " + value))
        assert client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hello!"}])._request_id == shown


UTF8 = [b"", b"; charset=utf-8", b';charset="UTF-8"', b"; charset=UTF8", b"; x=1"]
OTHERS = [b"; charset=utf-7", b'; CHARSET="utf-7"', b";charset=utf-16", b"; x=1; charset = utf-7", b"; charset=utf-8; charset=utf-7",
          b"; charset*=us-ascii''utf-7"]  # fmt: skip


@pytest.mark.parametrize("charset", OTHERS)
def test_a_charset_of_a_reply_is_the_one_that_it_was_read_in(scene: Scene, charset: bytes) -> None:
    body = orjson.dumps({**ANSWER, "note": f"it is {UTF7} "})
    stream = b"data: %b\n\n" % orjson.dumps(CHUNK) + DATA
    for twice in ((), (b"content-type: text/plain" + charset,)):
        got = scene.ask(says(reply(body, b"200 OK", *twice, kind=b"application/json" + charset)))
        assert got.headers.get_list("content-type") == ["application/json"]
        assert KEY not in got.text
        got = scene.ask(_stream(b"text/event-stream" + charset, stream, *twice), stream=True)
        assert got.headers.get_list("content-type") == ["text/event-stream; charset=utf-8"]
        assert KEY not in got.text


@pytest.mark.parametrize("charset", UTF8)
def test_a_content_type_that_says_what_the_body_is_stays(scene: Scene, charset: bytes) -> None:
    for kind in (b"application/json", b"text/json", b"application/problem+json"):
        got = scene.ask(says(reply(WHOLE, kind=kind + charset)))
        assert got.headers.get_list("content-type") == [(kind + charset).decode()]
    got = scene.ask(_stream(b"text/event-stream" + charset, DATA), stream=True)
    assert got.headers.get_list("content-type") == [(b"text/event-stream" + charset).decode()]


@pytest.mark.parametrize("kind", [b"text/html", b"text/event-stream", b"multipart/mixed; boundary=x", b"application/xml", b""])
def test_json_is_told_as_json_whatever_it_was_called(scene: Scene, kind: bytes) -> None:
    got = scene.ask(says(reply(WHOLE, kind=kind)))
    assert got.headers.get_list("content-type") == ["application/json"]
    assert got.json() == ANSWER


def test_an_array_of_gemini_is_told_as_json(scene: Scene) -> None:
    body = orjson.dumps([{"candidates": [{"content": {"role": "model", "parts": [{"text": "fine"}]}, "finishReason": "STOP"}]}])
    path, asking = "/v1beta/models/m:streamGenerateContent", {"contents": [{"role": "user", "parts": [{"text": "Hello!"}]}]}
    for kind, told in (
        (b"application/json; charset=UTF-8", "application/json; charset=UTF-8"),
        (b"application/json; charset=utf-7", "application/json"),
    ):
        scene.answer = says(reply(body, kind=kind))
        with scene.gateway.client() as client:
            got = client.post(path, json=asking)
        assert got.headers.get_list("content-type") == [told]
        assert got.json() == orjson.loads(body)
