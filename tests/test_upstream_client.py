"""A configured upstream: what it sends, when it tries again, when it gives up, and TLS."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ssl
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from upstream_support import PATIENT, Handler, Loop, Peer, Server, both_loops, ok, run, saying, serving, upstream

from gateway.upstream.breaker import BreakerPolicy, State
from gateway.upstream.client import Upstream, _parse
from gateway.upstream.dial import Origin, tls_context
from gateway.upstream.errors import BreakerOpen, ConnectFailed, RequestRefused, TimedOut, TooBusy, Truncated, UpstreamError
from gateway.upstream.pool import PoolLimits
from gateway.upstream.retry import RetryPolicy


async def mirror(peer: Peer) -> None:
    """Answers with the request as it came."""
    while True:
        head, body = await peer.request()
        await peer.say(ok(head + body))


def in_turn(*replies: bytes) -> Handler:
    """Answers the requests of all connections with these replies, one after another; the last one stays."""
    left = list(replies)

    async def handler(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.say(left.pop(0) if len(left) > 1 else left[0])

    return handler


def status(code: int, *headers: bytes, body: bytes = b"no") -> bytes:
    return ok(body, *headers).replace(b"200 OK", b"%d Said" % code)


async def sent(client: Upstream, *arguments: object, **more: object) -> list[bytes]:
    """The lines of the head that the upstream saw, and the body."""
    reply = await client.send(*arguments, **more)  # type: ignore[arg-type]
    head, _, body = (await reply.read(2**16)).partition(b"\r\n\r\n")
    return [*head.split(b"\r\n"), body]


def test_what_is_sent() -> None:
    async def test() -> None:
        async with serving(mirror) as server:
            credentials = [(b"Authorization", b"Bearer ours"), (b"api-version", b"1")]
            base = f"http://LOCALHOST:{server.port}/v1/"
            client = Upstream("test", base, credentials, timeouts=PATIENT)
            host = b"host: localhost:%d" % server.port
            fixed = [host, b"authorization: Bearer ours", b"api-version: 1"]
            callers = [
                (b"Host", b"evil.example"), (b"HOST", b"evil2.example"), (b"authorization", b"Bearer theirs"),
                (b"Content-Length", b"99"), (b"transfer-encoding", b"chunked"), (b"accept-encoding", b"br"),
                (b"connection", b"keep-alive, x-hop"), (b"x-hop", b"1"), (b"expect", b"100-continue"),
                (b"Content-Type", b"application/json"), (b"x-beta", b"a"), (b"x-beta", b"b"),
            ]  # fmt: skip
            kept = [b"content-type: application/json", b"x-beta: a", b"x-beta: b"]
            assert await sent(client, b"POST", b"/chat?x=1", callers, b"{}") == [
                b"POST /v1/chat?x=1 HTTP/1.1", *fixed, b"accept-encoding: gzip", *kept, b"content-length: 2",
                b"{}"]  # fmt: skip
            assert await sent(client, b"POST", b"/chat", [], b"{}", streaming=True) == [
                b"POST /v1/chat HTTP/1.1", *fixed, b"accept-encoding: identity", b"content-length: 2", b"{}"]  # fmt: skip
            assert await sent(client, b"GET", b"/models", []) == [
                b"GET /v1/models HTTP/1.1", *fixed, b"accept-encoding: gzip", b""]  # fmt: skip
            assert await sent(client, b"PUT", b"/", []) == [
                b"PUT /v1/ HTTP/1.1", *fixed, b"accept-encoding: gzip", b"content-length: 0", b""]  # fmt: skip
            client.close()

    run(test())


@pytest.mark.parametrize(("method", "target", "headers"), [
    (b"POST", b"http://evil.example/", []), (b"POST", b"/a/../../b", []), (b"POST", b"/a b", []), (b"PO ST", b"/", []),
    (b"POST", b"/", [(b"a", b"b\r\nc: d")]), (b"POST", b"/", [(b"a\nb", b"c")]),
])  # fmt: skip
def test_what_is_not_sent(method: bytes, target: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    async def test() -> None:
        async with serving(mirror) as server:
            client = upstream(server.port)
            with pytest.raises(RequestRefused):
                await client.send(method, target, headers)
            assert (server.peers, client.requests, client.tally.errors.total()) == ([], 0, 0)

    run(test())


@pytest.mark.parametrize(("base", "host", "port", "prefix", "written"), [
    ("http://Host", "host", 80, b"", b"host"),
    ("http://host:80/v1/", "host", 80, b"/v1", b"host"),
    ("http://host:8080/a/b", "host", 8080, b"/a/b", b"host:8080"),
    ("http://[::1]:8080/", "::1", 8080, b"", b"[::1]:8080"),
    ("http://127.0.0.1", "127.0.0.1", 80, b"", b"127.0.0.1"),
    ("http://bücher.example", "xn--bcher-kva.example", 80, b"", b"xn--bcher-kva.example"),
])  # fmt: skip
def test_base_urls(base: str, host: str, port: int, prefix: bytes, written: bytes) -> None:
    assert _parse(base, None) == (Origin(host, port, None), prefix, written)


@pytest.mark.parametrize("base", [
    "ftp://host/", "host/v1", "http://", "http://u:p@host", "http://@host", "http://host?x", "http://host/#x",
    "http://host:x", "http://host:99999", "https://host", "http://host/a/../b", "http://ho st/", "http://host/é",
    "http://host\\@evil/", "http://a%0ab/", "http://[::1"])  # fmt: skip
def test_base_urls_that_are_refused(base: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Upstream("test", base, [], timeouts=PATIENT)


def test_a_credential_that_would_break_the_head_is_refused() -> None:
    with pytest.raises(RequestRefused):
        Upstream("test", "http://host", [(b"authorization", b"Bearer x\n")], timeouts=PATIENT)


def test_a_redirect_is_relayed_and_not_followed() -> None:
    async def test() -> None:
        async with serving(saying(status(307, b"location: http://127.0.0.1:1/"))) as server:
            client = upstream(server.port, retries=RetryPolicy(attempts=3))
            reply = await client.send(b"POST", b"/", [])
            assert (reply.status, reply.headers) == (307, [(b"location", b"http://127.0.0.1:1/")])
            assert (client.requests, client.tally.retries, len(server.peers)) == (1, 0, 1)
            client.close()

    run(test())


QUICK = RetryPolicy(attempts=3, base=0.001, longest=1)

# name: the replies in turn, the status that comes out of it, the retries that were made
RETRIED: dict[str, tuple[tuple[bytes, ...], int, int]] = {
    "unavailable, then well": ((status(503), ok()), 200, 1),
    "too many, then well": ((status(429, b"retry-after: 0"), status(429), ok()), 200, 2),
    "overloaded, then well": ((status(529, b"retry-after: 0"), ok()), 200, 1),
    "a date that has passed": ((status(503, b"retry-after: Fri, 31 Dec 1999 23:59:59 GMT"), ok()), 200, 1),
    "unavailable for good": ((status(503),), 503, 2),
    "it asks for more than we wait": ((status(429, b"retry-after: 2"), ok()), 429, 0),
    "a server's error": ((status(500), ok()), 500, 0),
    "a gateway's error": ((status(502), ok()), 502, 0),
    "a caller's error": ((status(400), ok()), 400, 0),
}


@pytest.mark.parametrize("name", RETRIED)
def test_refusals_are_retried(name: str) -> None:
    replies, code, retries = RETRIED[name]

    async def test() -> None:
        async with serving(in_turn(*replies)) as server:
            client = upstream(server.port, retries=QUICK)
            reply = await client.send(b"POST", b"/", [], b"{}")
            assert (reply.status, client.tally.retries, client.pool.opened) == (code, retries, 1)
            assert await reply.read(100) == (b"hello" if code == 200 else b"no")
            client.close()

    run(test())


def test_a_failed_connection_is_retried() -> None:
    async def test() -> None:
        async with serving(saying(ok())) as server:
            port = server.port
        client = upstream(port, retries=QUICK)
        with pytest.raises(ConnectFailed):
            await client.send(b"POST", b"/", [])
        assert (client.tally.retries, dict(client.tally.errors)) == (2, {"connect": 3})

    run(test())


def test_a_reply_that_breaks_is_not_retried() -> None:
    async def broken(peer: Peer) -> None:
        await peer.request()
        await peer.say(b"HTTP/1.1 200")

    async def test() -> None:
        async with serving(broken) as server:
            client = upstream(server.port, retries=QUICK)
            with pytest.raises(Truncated):
                await client.send(b"POST", b"/", [])
            assert (client.tally.retries, len(server.peers)) == (0, 1)

    run(test())


def test_the_breaker_opens_and_closes() -> None:
    down = asyncio.Event()

    async def handler(peer: Peer) -> None:
        await peer.request()
        await peer.say(b"" if down.is_set() else ok(b"hello", b"connection: close"))

    async def test() -> None:
        async with serving(handler) as server:
            client = upstream(server.port, breaker=BreakerPolicy(streak=2, rest=0.2))
            loop = asyncio.get_running_loop()
            down.set()
            for _ in range(2):
                with pytest.raises(Truncated):
                    await client.send(b"POST", b"/", [])
            with pytest.raises(BreakerOpen) as caught:
                await client.send(b"POST", b"/", [])
            assert 0 < caught.value.retry_after < 0.21
            assert (client.breaker.state(loop.time()), len(server.peers)) == (State.OPEN, 2)
            assert dict(client.tally.errors) == {"truncated": 2, "breaker": 1}
            down.clear()
            await asyncio.sleep(caught.value.retry_after + 0.01)
            assert await (await client.send(b"POST", b"/", [])).read(9) == b"hello"
            assert client.breaker.state(loop.time()) is State.CLOSED

    run(test())


@pytest.mark.parametrize(("reply", "opens"), [
    (status(503), True), (status(502), True), (status(504), True), (status(529), True), (status(500), False),
    (status(429), False), (status(400), False), (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhello", True), (b"rubbish", True)])  # fmt: skip
def test_what_counts_against_an_upstream(reply: bytes, opens: bool) -> None:
    async def handler(peer: Peer) -> None:
        await peer.request()
        await peer.say(reply)

    async def test() -> None:
        async with serving(handler) as server:
            client = upstream(server.port, breaker=BreakerPolicy(streak=1))
            with contextlib.suppress(UpstreamError):
                await (await client.send(b"POST", b"/", [])).read(100)
            state = client.breaker.state(asyncio.get_running_loop().time())
            assert state is (State.OPEN if opens else State.CLOSED)
            client.close()

    run(test())


def test_our_own_impatience_does_not_count() -> None:
    async def silent(peer: Peer) -> None:
        await peer.gone()

    async def test() -> None:
        async with serving(silent) as server:
            limits = PoolLimits(connections=1, waiting=0)
            client = upstream(server.port, breaker=BreakerPolicy(streak=1), limits=limits)
            loop = asyncio.get_running_loop()
            hanging = asyncio.ensure_future(client.send(b"POST", b"/", [], deadline=loop.time() + 0.1))
            await asyncio.sleep(0)
            with pytest.raises(TooBusy):
                await client.send(b"POST", b"/", [])
            with pytest.raises(TimedOut, match="total"):
                await hanging
            assert dict(client.tally.errors) == {"busy": 1, "timeout_total": 1}
            assert client.breaker.state(loop.time()) is State.CLOSED

    run(test())


def make_certificates(folder: Path, name: str, expired: bool = False) -> tuple[Path, ssl.SSLContext]:
    """A self-signed certificate for a name or address: its file, and a server's context that uses it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    other = x509.IPAddress(ip_address(name)) if name[0].isdigit() else x509.DNSName(name)
    certificate = (
        x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
        .serial_number(1).not_valid_before(now - datetime.timedelta(days=2))
        .not_valid_after(now + datetime.timedelta(days=-1 if expired else 1))
        .add_extension(x509.SubjectAlternativeName([other]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    (folder / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return folder / "cert.pem", context


@both_loops
def test_tls_is_spoken_and_connections_are_kept(tmp_path: Path, loop: Loop) -> None:
    certificate, context = make_certificates(tmp_path, "localhost")
    names: list[str | None] = []
    context.sni_callback = lambda _, name, __: names.append(name)

    async def test() -> None:
        server = Server(saying(ok(b"x" * 300_000)))
        listening = await asyncio.start_server(server.serve, "localhost", 0, ssl=context)
        port = listening.sockets[0].getsockname()[1]
        tls = tls_context(certificate)
        client = Upstream("test", f"https://localhost:{port}/v1", [], timeouts=PATIENT, tls=tls)
        for _ in range(2):
            reply = await client.send(b"POST", b"/", [], b"y" * 300_000)
            assert len(await reply.read(300_000)) == 300_000
        assert (client.pool.opened, client.pool.reused, set(names)) == (1, 1, {"localhost"})
        client.close()
        await server.idle()
        listening.close()

    run(test(), loop)


@pytest.mark.parametrize(("name", "expired", "trusted"), [
    ("other.example", False, True), ("localhost", True, True), ("localhost", False, False)])  # fmt: skip
@both_loops
def test_certificates_are_verified(tmp_path: Path, name: str, expired: bool, trusted: bool, loop: Loop) -> None:
    certificate, context = make_certificates(tmp_path, name, expired)

    async def test() -> None:
        server = Server(saying(ok()))
        listening = await asyncio.start_server(server.serve, "localhost", 0, ssl=context)
        port = listening.sockets[0].getsockname()[1]
        tls = tls_context(certificate if trusted else None)
        client = Upstream("test", f"https://localhost:{port}", [], timeouts=PATIENT, tls=tls)
        with pytest.raises(ConnectFailed, match="certificate"):
            await client.send(b"POST", b"/", [])
        assert server.peers == []
        assert repr(client.pool) == "<Pool in_use=0 idle=0 waiting=0>"
        listening.close()

    run(test(), loop)


def test_old_tls_is_refused(tmp_path: Path) -> None:
    assert tls_context().minimum_version is ssl.TLSVersion.TLSv1_2
    assert tls_context().verify_mode is ssl.CERT_REQUIRED
    assert tls_context().check_hostname
    with pytest.raises(OSError, match=r"."):
        tls_context(tmp_path / "none.pem")


@both_loops
def test_plain_text_where_tls_is_wanted(loop: Loop) -> None:
    async def answer(peer: Peer) -> None:
        await peer.say(ok())

    async def test() -> None:
        async with serving(answer) as server:
            client = Upstream("test", f"https://127.0.0.1:{server.port}", [], timeouts=PATIENT, tls=tls_context())
            with pytest.raises(ConnectFailed, match="TLS"):
                await client.send(b"POST", b"/", [])

    run(test(), loop)
