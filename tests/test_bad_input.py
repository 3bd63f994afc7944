"""Bad input of every kind, of callers and of upstreams, through a real gateway: a clear error in the caller's own wire format."""

from __future__ import annotations

import asyncio
import json
import marshal
import re
import resource
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import orjson
import pytest
from conftest import StartGateway
from gateways import Gateway, until
from redis_servers import redis_server
from upstreams import Answer, Upstream, reply, says

from gateway.serving import app

JSON = {"content-type": "application/json"}
MARK = "xyzzy-it-stood-in-the-body"
"""Stands in every bad body, and in no error."""


class Dialect(NamedTuple):
    """A provider's way to ask and to fail."""

    path: str
    stream: str
    body: dict[str, Any]
    key: str

    def asking(self, **fields: Any) -> bytes:
        return orjson.dumps({**self.body, **fields})


DIALECTS = {
    "openai": Dialect("/v1/chat/completions", "/v1/chat/completions",
                      {"model": "m", "messages": [{"role": "user", "content": "Hello!"}]}, "authorization"),
    "anthropic": Dialect("/v1/messages", "/v1/messages",
                         {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "Hello!"}]}, "x-api-key"),
    "gemini": Dialect("/v1beta/models/m:generateContent", "/v1beta/models/m:streamGenerateContent?alt=sse",
                      {"contents": [{"role": "user", "parts": [{"text": "Hello!"}]}]}, "x-goog-api-key"),
}  # fmt: skip
WHOLE = {
    "openai": {"id": "c", "object": "chat.completion", "created": 1, "model": "m",
               "choices": [{"index": 0, "message": {"role": "assistant", "content": "fine"}, "finish_reason": "stop"}]},
    "anthropic": {"id": "c", "type": "message", "role": "assistant", "model": "m", "content": [{"type": "text", "text": "fine"}],
                  "stop_reason": "end_turn", "stop_sequence": None, "usage": {"input_tokens": 1, "output_tokens": 1}},
    "gemini": {"candidates": [{"content": {"role": "model", "parts": [{"text": "fine"}]}, "finishReason": "STOP", "index": 0}]},
}  # fmt: skip
FRAME = {
    "openai": b'data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"content":"half of it. "},"finish_reason":null}]}\n\n',
    "anthropic": b'event: message_start\ndata: {"type":"message_start","message":{"id":"c","type":"message","role":"assistant","model":"m","content":[],"stop_reason":null,"usage":{"input_tokens":1,"output_tokens":1}}}\n\n'
                 b'event: content_block_start\ndata: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}\n\n'
                 b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"half of it. "}}\n\n',
    "gemini": b'data: {"candidates":[{"content":{"role":"model","parts":[{"text":"half of it. "}]},"index":0}]}\n\n',
}  # fmt: skip
every_dialect = pytest.mark.parametrize("name", DIALECTS)


def told(name: str, got: httpx.Response, status: int) -> str:
    """The message of an error, which must have its wire's shape and hold nothing of the body."""
    assert got.status_code == status, got.text
    assert got.headers["content-type"].startswith("application/json")
    assert got.headers["x-portcullis-id"]
    assert MARK not in got.text
    document = got.json()
    error = document["error"]
    if name == "anthropic":
        assert document["type"] == "error"
        assert error["type"] in ANTHROPIC_TYPES
    elif name == "gemini":
        assert error["code"] == status
        assert re.fullmatch("[A-Z_]+", error["status"])
    else:
        assert error.keys() == {"message", "type", "param", "code"}
    return str(error["message"])


ANTHROPIC_TYPES = {
    "invalid_request_error", "authentication_error", "permission_error", "not_found_error", "request_too_large",
    "rate_limit_error", "api_error", "overloaded_error", "timeout_error",
}  # fmt: skip


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """With a limit on bodies that a test can pass, and no key."""
    started = Gateway(tmp_path_factory.mktemp("bad-input"), {"limits": {"ready_grace_seconds": 0, "body_bytes": 4_000_000}}, 1, {})
    yield started
    started.stop()


def _wrong_text(name: str) -> tuple[bytes, str]:
    dialect = DIALECTS[name]
    if name == "gemini":
        return dialect.asking(contents=[{"parts": [{"text": {"it": MARK}}]}]), "contents[0].parts[0].text"
    return dialect.asking(messages=[{"role": "user", "content": [{"type": "text", "text": {"it": MARK}}]}]), "messages[0].content"


def _many_parts(name: str) -> bytes:
    if name == "gemini":
        return DIALECTS[name].asking(contents=[{"parts": [{"text": "a"}] * 50_001}])
    return DIALECTS[name].asking(messages=[{"role": "user", "content": [{"type": "text", "text": "a"}] * 50_001}])


BAD: dict[str, Callable[[str], tuple[bytes, str]]] = {
    "nothing": lambda name: (b"", "not valid JSON"),
    "half": lambda name: (b'{"x":"%b", ' % MARK.encode(), "not valid JSON"),
    "not UTF-8": lambda name: (b'{"x":"\xff%b"}' % MARK.encode(), "not valid JSON"),
    "two documents": lambda name: (DIALECTS[name].asking() * 2, "not valid JSON"),
    "a list": lambda name: (orjson.dumps([MARK]), "wanted a JSON object"),
    "a repeated key": lambda name: (DIALECTS[name].asking()[:-1] + b',"%b":1,"%b":2}' % (MARK.encode(), MARK.encode()), "repeats a key"),
    "a key repeated deep inside": lambda name: (DIALECTS[name].asking()[:-1] + b',"x":{"y":[{"a":1,"\\u0061":2}]}}', "repeats a key"),
    "deep": lambda name: (DIALECTS[name].asking()[:-1] + b',"x":' + b"[" * 200 + b"]" * 200 + b"}", "nested"),
    "very deep": lambda name: (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "not valid JSON"),
    "many parts": lambda name: (_many_parts(name), "at most 50000"),
    "an object where text should be": _wrong_text,
    "a number where a list should be": lambda name: (DIALECTS[name].asking(messages=7, contents=7), ": got a number; wanted"),
    "nothing that is asked for": lambda name: (b'{"model":"m"}', "contents" if name == "gemini" else "messages"),
}

KINDS = (
    "text/plain", "multipart/form-data", "application/json; charset=utf-16", "application/json; CHARSET=utf-7",
    "application/json; charset = utf-7", "application/json; x=charset=utf-8", "application/json; charset=utf-8; charset=utf-7",
)  # fmt: skip
"""What no body is taken for, however it is written."""


class TestCallers:
    @every_dialect
    @pytest.mark.parametrize("fault", BAD)
    def test_a_body_that_cannot_be_taken(self, gateway: Gateway, name: str, fault: str) -> None:
        body, part = BAD[fault](name)
        with gateway.client() as client:
            assert part in told(name, client.post(DIALECTS[name].path, content=body, headers=JSON), 400)

    @every_dialect
    def test_a_body_of_another_kind(self, gateway: Gateway, name: str) -> None:
        dialect = DIALECTS[name]
        with gateway.client() as client:
            for kind in KINDS:
                got = client.post(dialect.path, content=dialect.asking(), headers={"content-type": kind})
                assert "wanted application/json" in told(name, got, 415)
            got = client.post(dialect.path, content=b"x", headers={**JSON, "content-encoding": "br"})
            assert "content-encoding" in told(name, got, 415)

    @every_dialect
    def test_a_body_that_is_too_large_is_refused_before_it_is_sent(self, gateway: Gateway, name: str) -> None:
        head = b"POST %b HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 4000001\r\n\r\n"
        raw = gateway.raw(head % DIALECTS[name].path.encode())
        head, _, body = raw.partition(b"\r\n\r\n")
        headers = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:])
        got = httpx.Response(int(head.split()[1]), headers=list(headers.items()), content=body)
        assert "larger than 4000000 bytes" in told(name, got, 413)

    @every_dialect
    def test_repeated_headers(self, gateway: Gateway, name: str) -> None:
        dialect = DIALECTS[name]
        with gateway.client() as client:
            twice = [(dialect.key, "Bearer a"), (dialect.key, "Bearer b"), ("content-type", "application/json")]
            assert dialect.key in told(name, client.post(dialect.path, content=dialect.asking(), headers=twice), 400)

    @every_dialect
    def test_the_name_of_somebody_else(self, gateway: Gateway, name: str) -> None:
        dialect = DIALECTS[name]
        with gateway.client() as client:
            for host in ("evil.example", "localhost.evil.example", "127.0.0.1@evil.example", "[::1].evil.example"):
                got = client.post(dialect.path, content=dialect.asking(), headers={**JSON, "host": host})
                assert "own address" in told(name, got, 421)

    def test_paths_that_mean_something_else(self, gateway: Gateway) -> None:
        with gateway.client() as client:
            for path, name in (
                ("/v1/files", "openai"), ("/v1/chat/completions/", "openai"), ("/v1/chat%2fcompletions/x", "openai"),
                ("/v1/messages/batches", "anthropic"), ("/v1/messages/../chat", "openai"),
                ("/v1beta/files", "gemini"), ("/v1beta/models/m:destroy", "gemini"), ("/v1beta/models/..%2f..%2fx:generateContent", "gemini"),
            ):  # fmt: skip
                got = client.post(path, json={"it": MARK})
                assert "not served" in told(name, got, 404), path

    def test_a_provider_that_is_not_configured(self, start_gateway: StartGateway) -> None:
        gateway = start_gateway(upstreams={"openai": {"base_url": "echo:"}})
        with gateway.client() as client:
            assert client.post(DIALECTS["openai"].path, content=DIALECTS["openai"].asking(), headers=JSON).status_code == 200
            for name in ("anthropic", "gemini"):
                dialect = DIALECTS[name]
                got = client.post(dialect.path, content=dialect.asking(), headers=JSON)
                assert f"no upstream is configured for {name}" in told(name, got, 404)

    def test_keys(self, start_gateway: StartGateway) -> None:
        gateway = start_gateway()
        with gateway.client() as client:
            operator = client.post("/admin/v1/keys", json={"role": "operator", "tenant": "*"}).json()["token"]
            for name, dialect in DIALECTS.items():

                def asked(name: str = name, dialect: Dialect = dialect, **headers: str) -> httpx.Response:
                    return client.post(dialect.path, content=dialect.asking(), headers={**JSON, **headers})

                assert "send a Portcullis key" in told(name, asked(), 401)
                bearer = "Bearer " if dialect.key == "authorization" else ""
                wrong = told(name, asked(**{dialect.key: f"{bearer}pc_{MARK}"}), 401)
                assert "not known, was revoked or has expired" in wrong
                assert "role app" in told(name, asked(**{dialect.key: bearer + operator}), 403)


class Scene:
    """An upstream of all providers whose next answers a test chooses, behind a gateway."""

    def __init__(self, folder: Path) -> None:
        self.answer: Answer = says(b"")
        self.upstream = Upstream(lambda *connection: self.answer(*connection))
        base = self.upstream.base_url.removesuffix("/v1")
        timeouts = {"connect": 3, "first_byte": 3, "idle": 3, "total": 60}
        common = {"attempts": 1, "timeouts": timeouts}
        self.gateway = Gateway(folder, {
            "limits": {"ready_grace_seconds": 0, "reply_bytes": 8 * 2**20},
            "upstreams": {"openai": {"base_url": f"{base}/v1", **common}, "anthropic": {"base_url": base, **common},
                          "gemini": {"base_url": base, **common}},
        }, 1, {})  # fmt: skip

    def ask(self, name: str, answer: Answer, streamed: bool = False) -> httpx.Response:
        dialect = DIALECTS[name]
        more = {"stream": True} if streamed and name != "gemini" else {}
        self.answer = says(reply(orjson.dumps(WHOLE[name])))  # so that no breaker opens
        with self.gateway.client() as client:
            good = client.post(dialect.path, content=dialect.asking(), headers=JSON)
            assert good.status_code == 200, good.text
            self.answer = answer
            return client.post(dialect.stream if streamed else dialect.path, content=dialect.asking(**more), headers=JSON)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    made = Scene(tmp_path_factory.mktemp("bad-upstreams"))
    yield made
    made.gateway.stop()
    made.upstream.stop()


async def _reset(_body: bytes, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    writer.transport.abort()


async def _hang(_body: bytes, reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def _hundred_megabytes(_body: bytes, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n")
    piece = b'"' + b"x" * (2**20 - 3) + b'",'
    for _ in range(100):
        writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        await writer.drain()


def _then_end(raw: bytes) -> Answer:
    async def answer(_body: bytes, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(raw)
        await writer.drain()
        writer.close()

    return answer


_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
REPLIES: dict[str, tuple[Answer, set[int]]] = {
    "resets": (_reset, {502}),
    "hangs": (_hang, {504}),
    "ends before its length": (_then_end(_HEAD + b"content-length: 100\r\n\r\n{"), {502}),
    "stops before its length": (says(_HEAD + b"content-length: 100\r\n\r\n{"), {504}),
    "says two lengths": (says(_HEAD + b"content-length: 2\r\ncontent-length: 3\r\n\r\n{}"), {502}),
    "says a length and chunks": (says(_HEAD + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"), {502}),
    "sends a broken chunk": (says(_HEAD + b"transfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n"), {502}),
    "is no HTTP": (says(b"SSH-2.0-OpenSSH_9\r\n"), {502}),
    "sends half a document": (says(reply(b'{"choices": [{"' + MARK.encode())), {502}),
    "sends UTF-16": (says(reply(json.dumps({"x": MARK}).encode("utf-16"))), {502}),
    "sends no gzip": (says(reply(b"not gzip", b"200 OK", b"content-encoding: gzip")), {502}),
    "sends an unknown encoding": (says(reply(b"{}", b"200 OK", b"content-encoding: rot13")), {502}),
    "sends a page": (says(reply(f"<p>{MARK}</p>".encode(), b"502 Bad Gateway", kind=b"text/html")), {502}),
    "sends callers elsewhere": (says(reply(b"", b"307 Temporary Redirect", b"location: http://127.0.0.1:1/v1")), {502}),
    "sends a stream that nobody asked for": (says(reply(b"data: x\n\n", kind=b"text/event-stream")), {502}),
    "sends a hundred megabytes": (_hundred_megabytes, {502}),
}


def _streamed(*pieces: bytes, end: bool = True) -> Answer:
    async def answer(_body: bytes, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        for piece in pieces:
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            await writer.drain()
        if end:
            writer.write(b"0\r\n\r\n")
            await writer.drain()
        else:
            writer.transport.abort()

    return answer


class TestUpstreams:
    @every_dialect
    @pytest.mark.parametrize("fault", REPLIES)
    def test_one_that(self, scene: Scene, name: str, fault: str) -> None:
        answer, statuses = REPLIES[fault]
        got = scene.ask(name, answer)
        assert got.status_code in statuses
        assert "upstream" in told(name, got, got.status_code)

    def test_a_page_that_says_when_to_come_again(self, scene: Scene) -> None:
        page = reply(b"<p>later</p>", b"503 Service Unavailable", b"retry-after: 600", b"x-request-id: r1", kind=b"text/html")
        got = scene.ask("openai", says(page))
        assert "upstream" in told("openai", got, 503)
        assert (got.headers["retry-after"], got.headers["x-request-id"]) == ("600", "r1")
        assert got.headers.get_list("content-type") == ["application/json"]

    def test_a_hundred_megabytes_take_no_memory(self, scene: Scene) -> None:
        status = Path(f"/proc/{scene.gateway.process.pid}/status")

        def peak() -> int:
            return int(re.search(r"VmHWM:\s+(\d+)", status.read_text())[1]) // 1024  # type: ignore[index]

        scene.ask("openai", says(reply(orjson.dumps(WHOLE["openai"]))))
        before = peak()
        assert scene.ask("openai", _hundred_megabytes).status_code == 502
        assert peak() - before < 40

    @every_dialect
    def test_one_that_refuses(self, start_gateway: StartGateway, name: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as closed:
            port = closed.getsockname()[1]
        gateway = start_gateway(upstreams={name: {"base_url": f"http://127.0.0.1:{port}", "attempts": 1}})
        dialect = DIALECTS[name]
        with gateway.client() as client:
            assert "upstream" in told(name, client.post(dialect.path, content=dialect.asking(), headers=JSON), 502)

    @every_dialect
    def test_a_last_frame_without_its_end_is_heard(self, scene: Scene, name: str) -> None:
        """The providers' clients read it, so whoever goes through a gateway does, too."""
        got = scene.ask(name, _streamed(FRAME[name].rstrip(b"\n")), streamed=True)
        assert "half of it" in got.text
        assert got.content == FRAME[name]

    @every_dialect
    @pytest.mark.parametrize(
        "fault",
        ["breaks off", "breaks off in half a frame", "ends in half a frame", "ends in half a frame behind a comment", "is no JSON"],
    )
    def test_a_stream_that(self, scene: Scene, name: str, fault: str) -> None:
        half = FRAME[name] + b'data: {"' + MARK.encode()
        answer = {
            "breaks off": _streamed(FRAME[name], end=False),
            "breaks off in half a frame": _streamed(half, end=False),
            "ends in half a frame": _streamed(half),
            "ends in half a frame behind a comment": _streamed(FRAME[name] + b": ping\n" + half.removeprefix(FRAME[name])),
            "is no JSON": _streamed(FRAME[name], b"data: {broken " + MARK.encode() + b"\n\n"),
        }[fault]
        got = scene.ask(name, answer, streamed=True)
        assert got.status_code == 200
        assert "half of it" in got.text
        assert MARK not in got.text
        assert "[DONE]" not in got.text
        assert '"error"' in got.text


class TestFullDisk:
    """A limit on the size of files stands for the full disk; the audit log is off, so that it is the decisions that meet it."""

    def _start(self, start_gateway: StartGateway, **policy: Any) -> Gateway:
        return start_gateway(audit={"enabled": False}, policy={"preset": "balanced", **policy})

    def test_what_cannot_be_recorded_is_refused_where_the_policy_says_so(self, start_gateway: StartGateway) -> None:
        gateway = self._start(start_gateway, failure={"audit": "closed"})
        with gateway.client() as client:
            with _full(gateway):
                self._until_unhealthy(client)
                for name, dialect in DIALECTS.items():
                    got = client.post(dialect.path, content=dialect.asking(), headers=JSON)
                    assert "cannot be recorded, and the policy demands it" in told(name, got, 503)
                metrics = client.get("/metrics").text
                assert re.search(r'portcullis_incomplete_verdicts_total\{reason="unavailable",stage="audit"\} [1-9]', metrics)
                ready = client.get("/readyz")
                assert "disk" in ready.json()["decisions"]
                assert ready.status_code == 503, "who refuses everybody is not sent anybody"
            self._until_recorded(client)
            assert client.get("/readyz").status_code == 200
            assert client.post(DIALECTS["openai"].path, content=DIALECTS["openai"].asking(), headers=JSON).status_code == 200

    def test_it_is_served_and_counted_where_the_policy_says_so(self, start_gateway: StartGateway) -> None:
        gateway = self._start(start_gateway, failure={"audit": "open"})
        with gateway.client() as client:
            with _full(gateway):
                ids = self._until_unhealthy(client)
                for _ in range(5):
                    got = client.post(DIALECTS["openai"].path, content=DIALECTS["openai"].asking(), headers=JSON)
                    assert got.status_code == 200
                    ids.append(got.headers["x-portcullis-id"])
                assert re.search(r'portcullis_fail_open_total\{stage="audit"\} [1-9]', client.get("/metrics").text)
                assert client.get("/readyz").status_code == 200
            self._until_recorded(client)
            kept = {one["id"] for one in client.get("/admin/v1/decisions?limit=500").json()["decisions"]}
        assert kept >= set(ids), "what waited for the disk is stored when there is room"

    @pytest.mark.parametrize("later", [app.LATER, ()], ids=["loaded before", "loaded now"])
    def test_no_half_of_a_module_is_kept(self, tmp_path: Path, later: tuple[str, ...]) -> None:
        """It was, of what writes metrics down: they were never to be had again, from no gateway of this installation."""
        compiled = tmp_path / "compiled"
        constants = {"sys.dont_write_bytecode": False, "sys.pycache_prefix": str(compiled), "gateway.serving.app.LATER": later}
        gateway = Gateway(tmp_path, {}, 1, {}, constants=constants)
        try:
            with gateway.client() as client:
                assert client.get("/admin/v1/keys").status_code == 200  # the control plane is there
                with _full(gateway):
                    assert "portcullis_build_info" in client.get("/metrics").text
        finally:
            gateway.stop()
        for file in compiled.rglob("*.pyc"):
            assert marshal.loads(file.read_bytes()[16:]), file

    def _until_unhealthy(self, client: httpx.Client) -> list[str]:
        ids = []
        deadline = time.monotonic() + 30
        while client.get("/readyz").json()["decisions"] == "recorded":
            assert time.monotonic() < deadline
            got = client.post(DIALECTS["openai"].path, content=DIALECTS["openai"].asking(), headers=JSON)
            ids.append(got.headers["x-portcullis-id"])
        return ids

    def _until_recorded(self, client: httpx.Client) -> None:
        until(lambda: client.get("/readyz").json()["decisions"] == "recorded", 30)


class _full:  # noqa: N801 - reads as what it is
    """No file of a gateway's process can grow beyond some bytes."""

    def __init__(self, gateway: Gateway) -> None:
        self._process = gateway.process.pid

    def __enter__(self) -> None:
        resource.prlimit(self._process, resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))

    def __exit__(self, *_: object) -> None:
        resource.prlimit(self._process, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def test_redis_gone(start_gateway: StartGateway, tmp_path: Path) -> None:
    """Decisions wait on disk, requests go on, and what only the state can answer says so."""
    with redis_server(tmp_path) as state:
        gateway = start_gateway(state=state.url)
        openai = DIALECTS["openai"]
        with gateway.client() as client:
            assert client.post(openai.path, content=openai.asking(), headers=JSON).status_code == 200
            state.stop()
            ids = []
            deadline = time.monotonic() + 30
            while "wait on disk" not in client.get("/readyz").json()["state"]:
                assert time.monotonic() < deadline
                for name, dialect in DIALECTS.items():
                    got = client.post(dialect.path, content=dialect.asking(), headers=JSON)
                    assert got.status_code == 200, name
                    ids.append(got.headers["x-portcullis-id"])
            refused = client.get("/admin/v1/decisions")
            assert refused.status_code == 503
            assert "the state does not answer" in refused.json()["detail"]
            until(lambda: "portcullis_state_up 0.0" in client.get("/metrics").text, deadline - time.monotonic())
            state.start()
            until(lambda: client.get("/readyz").json()["state"] == "answers", deadline + 30 - time.monotonic())
            kept = {one["id"] for one in client.get("/admin/v1/decisions?limit=500").json()["decisions"]}
        assert kept >= set(ids)


class TestControlPlane:
    @pytest.mark.parametrize(
        ("method", "path", "body", "field", "part"),
        [
            ("POST", "/admin/v1/session", {"key": "k" * 201}, ["body", "key"], "at most 200 characters"),
            ("POST", "/admin/v1/session", {"key": {"it": MARK}}, ["body", "key"], "string"),
            ("POST", "/admin/v1/session", {}, ["body", "key"], "required"),
            ("POST", "/admin/v1/session", {"key": "x", "kee": MARK}, ["body", "kee"], "no such field"),
            ("POST", "/admin/v1/session", {"key": "x", "k" * 500: 1}, ["body", "k" * 64], "no such field"),
            ("POST", "/admin/v1/session", {"key": "x", "\ud800": 1}, ["body"], "unicode string"),
            ("POST", "/admin/v1/session", [MARK], ["body"], "dictionary"),
            ("POST", "/admin/v1/keys", {"role": MARK}, ["body", "role"], "'app'"),
            ("POST", "/admin/v1/keys", {"expires_at": MARK}, ["body", "expires_at"], "number"),
            ("POST", "/admin/v1/playground", {"text": 5, "messages": MARK}, ["body", "text"], "string"),
            ("GET", f"/admin/v1/decisions?limit={MARK}", None, ["query", "limit"], "integer"),
            ("GET", f"/admin/v1/decisions?since={MARK}", None, ["query", "since"], "number"),
            ("GET", f"/admin/v1/decisions?action={MARK}", None, ["query", "action"], "'allow', 'flag', 'redact' or 'block'"),
        ],
    )  # fmt: skip
    def test_what_is_wrong_is_named_and_what_was_sent_is_not_said_again(
        self, gateway: Gateway, method: str, path: str, body: Any, field: list[str], part: str
    ) -> None:
        with gateway.client() as client:
            sent = None if body is None else json.dumps(body)
            got = client.request(method, path, content=sent, headers=JSON)
        assert got.status_code == 422, got.text
        assert MARK not in got.text
        assert "k" * 65 not in got.text
        (fault, *_) = got.json()["detail"]
        assert fault["loc"] == field
        assert part in fault["msg"]
        assert fault.keys() == {"loc", "msg", "type"}

    @pytest.mark.parametrize(
        ("path", "field", "part"),
        [
            ("/admin/v1/decisions?acton=block", "acton", "wanted action, category, cursor, limit, since, tenant, until, wire"),
            (f"/admin/v1/decisions?action=block&{'k' * 500}={MARK}", "k" * 64, "there is no such field"),
            ("/admin/v1/decisions?action=block&action=allow", "action", "given 2 times; wanted once"),
            ("/admin/v1/decisions/" + "0" * 32 + "?full=1", "full", "this call takes none"),
            ("/admin/v1/proposals?stage=proposed", "stage", "wanted cursor, limit, state"),
            ("/admin/v1/patterns?cursor=x", "cursor", "wanted category, limit, offset"),
            ("/admin/v1/feedback?by=ann", "by", "wanted cursor, limit"),
            ("/admin/v1/generations?offset=5", "offset", "wanted cursor, limit"),
            ("/admin/v1/generations/0/diff/0?limits=5", "limits", "wanted limit"),
            ("/admin/v1/keys?tenant=shop", "tenant", "this call takes none"),
            ("/admin/v1/exemplars/clusters?number=3", "number", "wanted "),
        ],
    )
    def test_a_filter_with_a_slip_in_its_name_does_not_show_everything(
        self, gateway: Gateway, path: str, field: str, part: str
    ) -> None:
        with gateway.client() as client:
            got = client.get(path)
        assert got.status_code == 422, got.text
        assert MARK not in got.text
        (fault,) = got.json()["detail"]
        assert fault["loc"] == ["query", field]
        assert part in fault["msg"]

    def test_a_key_in_the_query_is_no_unknown_name_and_a_stranger_learns_none(self, start_gateway: StartGateway) -> None:
        gateway = start_gateway()
        with gateway.client() as client:
            token = client.post("/admin/v1/keys", json={"role": "viewer", "tenant": "*"}).json()["token"]
            assert client.get(f"/admin/v1/decisions?limit=1&key={token}").status_code == 200
            assert client.get(f"/admin/v1/decisions?acton=block&key={token}").status_code == 422
            assert client.get("/admin/v1/decisions?acton=block").status_code == 401

    def test_a_body_that_is_no_json(self, gateway: Gateway) -> None:
        with gateway.client() as client:
            for body in (b'{"key": "%b' % MARK.encode(), b"\xff" + MARK.encode(), b"[" * 20_000):
                got = client.post("/admin/v1/session", content=body, headers=JSON)
                assert got.status_code in (400, 422), got.text
                assert MARK not in got.text

    @pytest.mark.parametrize(
        ("body", "part"),
        [
            (b"[" * 100_000 + b"]" * 100_000, "nested too deeply"), (b'{"text": "\xff%b"}' % MARK.encode(), "not UTF-8"),
            (b'{"text": 1%b}' % (b"0" * 5_000), "more than 4300 digits"),
        ],
    )  # fmt: skip
    def test_a_body_that_cannot_be_read_is_refused_as_others_are(self, gateway: Gateway, body: bytes, part: str) -> None:
        with gateway.client() as client:
            got = client.post("/admin/v1/playground", content=body, headers=JSON)
        assert got.status_code == 422
        (fault,) = got.json()["detail"]
        assert (fault["loc"], fault["type"]) == (["body"], "json_invalid")
        assert part in fault["msg"]
        assert MARK not in got.text

    def test_half_a_surrogate_pair_is_no_text_of_a_conversation(self, gateway: Gateway) -> None:
        part = {"type": "text", "\ud800": "x", "text": "x"}
        with gateway.client() as client:
            for message in ({"role": "user", "content": "\ud800x"}, {"role": "user", "content": [part]}):
                sent = json.dumps({"messages": [{"role": "user", "content": "Hello!"}, message]})
                got = client.post("/admin/v1/playground", content=sent, headers=JSON)
                assert (got.status_code, got.json()["detail"]) == (
                    422, "messages[1]: half of a surrogate pair is no text; wanted Unicode")  # fmt: skip

    @pytest.mark.parametrize("path", ["decisions", "proposals", "feedback"])
    def test_a_cursor_that_no_page_gave(self, gateway: Gateway, path: str) -> None:
        with gateway.client() as client:
            for cursor in ("zzz", "0", "", "%00", "F" * 32):
                got = client.get(f"/admin/v1/{path}?cursor={cursor}")
                assert (got.status_code, got.json()["detail"]) == (422, "cursor: wanted the one that the page before gave")

    def test_times_that_never_come(self, gateway: Gateway) -> None:
        with gateway.client() as client:
            assert client.post(DIALECTS["openai"].path, content=DIALECTS["openai"].asking(), headers=JSON).status_code == 200
            for query, some in (("since=1e308", False), ("since=-1e308", True), ("until=1e308", True), ("until=-1e308", False)):
                got = client.get(f"/admin/v1/decisions?{query}")
                assert (got.status_code, bool(got.json()["decisions"])) == (200, some)

    def test_of_a_stranger_little_is_read(self, start_gateway: StartGateway) -> None:
        gateway = start_gateway()
        body = json.dumps({"text": "x" * 100_000}).encode()
        with gateway.client() as client:
            assert client.post("/admin/v1/playground", content=body, headers=JSON).status_code == 200, "nobody is a stranger yet"
            token = client.post("/admin/v1/keys", json={"role": "analyst", "tenant": "*"}).json()["token"]
            for content in (body, iter([body[:60_000], body[60_000:]])):
                got = client.post("/admin/v1/playground", content=content, headers=JSON)
                assert (got.status_code, got.json()) == (413, {"detail": "the body is larger than 65536 bytes"})
            mine = {**JSON, "authorization": f"Bearer {token}"}
            assert client.post("/admin/v1/playground", content=body, headers=mine).status_code == 200
            huge = client.post("/admin/v1/playground", content=iter([b" " * 2**20] * 40), headers=mine)
            assert huge.status_code == 413

    def test_the_first_key_closes_every_worker_at_once(self, start_gateway: StartGateway) -> None:
        gateway = start_gateway(workers=2)
        with gateway.client() as client:
            assert client.get("/admin/v1/keys").status_code == 200
            assert client.post("/admin/v1/keys", json={"role": "operator", "tenant": "*"}).status_code == 201
        for _ in range(20):  # each on a connection of its own, so that both workers are asked
            with gateway.client() as client:
                assert client.get("/admin/v1/keys").status_code == 401
                assert client.get("/admin/v1/session").json()["signed_in"] is False
