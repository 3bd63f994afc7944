"""Fetching a feed: a file, a folder, or an HTTPS address, bounded in size and time, signed where the operator asks for it.

An address is asked over the client that upstreams are asked over: it follows no redirects, checks certificate and name, and
everything together must be over in `SECONDS`, however slowly a server sends.
"""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from gateway.learning.settings import FeedSettings
from gateway.upstream.client import Upstream
from gateway.upstream.connection import Timeouts
from gateway.upstream.dial import tls_context
from gateway.upstream.errors import UpstreamError
from gateway.upstream.http1 import Headers
from patterns import detached
from patterns.signing import read_public

MAX_BYTES: Final = 32 * 2**20
"""Bytes of one pull."""

SECONDS: Final = 30.0
"""How long one pull may take."""

MAX_MARK: Final = 1_000
"""Bytes of an ETag: it is sent back as it came."""


class Pulled(NamedTuple):
    """What a pull gave: the bytes and the name they came under, and what tells whether they changed."""

    data: bytes
    name: str
    mark: str


class FeedFault(Exception):  # noqa: N818 - reads as the condition that it is
    """A feed that cannot be pulled; the message names it and says why."""


async def pull(feed: FeedSettings, mark: str) -> list[Pulled]:
    """Fetch a feed; nothing where it is as it was at ``mark``.

    Raises:
        FeedFault: it cannot be fetched, is too large, or is not signed as it should be.
    """
    try:
        if not feed.source.startswith("https://"):
            return await asyncio.to_thread(_files, feed, mark)
        async with asyncio.timeout(SECONDS):
            return await _fetched(feed, mark)
    except (UpstreamError, ValueError) as error:
        raise FeedFault(f"{feed.name}: {error}") from None
    except TimeoutError:
        raise FeedFault(f"{feed.name}: not pulled within {SECONDS:.0f} s") from None
    except OSError as error:
        raise FeedFault(f"{feed.name}: {error.strerror or type(error).__name__}") from None


def _files(feed: FeedSettings, mark: str) -> list[Pulled]:
    path = Path(feed.source.removeprefix("file:"))
    files = sorted(one for one in path.iterdir() if one.is_file()) if path.is_dir() else [path]
    found = []
    for file in files:
        if file.suffix == detached.SUFFIX:
            continue
        if file.stat().st_size > MAX_BYTES:
            raise FeedFault(f"{feed.name}: {file.name}: more than {MAX_BYTES} bytes")
        data = file.read_bytes()
        if feed.key:
            beside = file.with_name(file.name + detached.SUFFIX)
            signature = beside.read_bytes() if beside.exists() else b""
            _check(feed, data, signature[: detached.MAX_SIGNATURE], file.name)
        found.append((file.name, data))
    now = hashlib.sha256(b"".join(name.encode() + data for name, data in found)).hexdigest()
    return [] if now == mark else [Pulled(data, name, now) for name, data in found]


async def _fetched(feed: FeedSettings, mark: str) -> list[Pulled]:
    parts = urlsplit(feed.source)
    timeouts = Timeouts(connect=SECONDS, first_byte=SECONDS, idle=SECONDS, total=SECONDS)
    server = Upstream("feed", f"https://{parts.netloc}", [], timeouts=timeouts, tls=tls_context(feed.ca_file))
    target, query = parts.path or "/", f"?{parts.query}" if parts.query else ""
    try:
        asked = [(b"user-agent", b"portcullis"), *([(b"if-none-match", mark.encode())] if mark else [])]
        status, headers, data = await _get(server, target + query, asked, MAX_BYTES)
        tag = dict(headers).get(b"etag", b"").decode("latin-1")[:MAX_MARK] or hashlib.sha256(data).hexdigest()
        if status == 304 or (status == 200 and tag == mark):
            return []
        if status != 200:
            raise FeedFault(f"{feed.name}: the server answered {status}")
        name = parts.path.rpartition("/")[2]
        if feed.key:
            asked = [(b"user-agent", b"portcullis")]
            status, _, signature = await _get(server, target + detached.SUFFIX + query, asked, detached.MAX_SIGNATURE)
            _check(feed, data, signature if status == 200 else b"", name)
        return [Pulled(data, name, tag)]
    finally:
        server.close()


async def _get(server: Upstream, target: str, headers: Headers, most: int) -> tuple[int, Headers, bytes]:
    reply = await server.send(b"GET", target.encode("ascii"), headers)
    try:
        return reply.status, reply.headers, await reply.read(most)
    finally:
        reply.close()


def _check(feed: FeedSettings, data: bytes, signature: bytes, name: str) -> None:
    if not signature:
        raise FeedFault(f"{feed.name}: {name}: unsigned: there is no {name}{detached.SUFFIX}; `key` asks for one")
    detached.verify(data, signature, read_public(feed.key), name)
