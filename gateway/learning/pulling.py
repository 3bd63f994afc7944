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
    """What a pull gave: the bytes and the name they came under, and what tells whether they changed; or, of one of a folder's
    files, why it cannot be taken."""

    data: bytes
    name: str
    mark: str
    fault: str = ""


class FeedFault(Exception):  # noqa: N818 - reads as the condition that it is
    """A feed that cannot be pulled; the message names it and says why."""


async def pull(feed: FeedSettings, mark: str) -> list[Pulled]:
    """Fetch a feed; nothing where it is as it was at ``mark``. A folder's files are each taken or not by themselves.

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
    if not path.is_dir():
        data = _file(feed, path, MAX_BYTES)
        now = hashlib.sha256(data).hexdigest()
        return [] if now == mark else [Pulled(data, path.name, now)]
    found, left = [], MAX_BYTES
    for file in sorted(one for one in path.iterdir() if one.is_file() and one.suffix != detached.SUFFIX):
        try:
            found.append(Pulled(_file(feed, file, left), file.name, ""))
        except FeedFault as error:
            found.append(Pulled(b"", file.name, "", str(error)))
        except (OSError, ValueError) as error:
            found.append(Pulled(b"", file.name, "", f"{feed.name}: {getattr(error, 'strerror', None) or error}"))
        left -= len(found[-1].data)
    now = hashlib.sha256(b"".join(one.name.encode() + one.data for one in found)).hexdigest()
    return [] if now == mark else [one._replace(mark=now) for one in found]


def _file(feed: FeedSettings, file: Path, most: int) -> bytes:
    if file.stat().st_size > most:
        more = " with the files before it" if most < MAX_BYTES else ""
        raise FeedFault(f"{feed.name}: {file.name}: more than {MAX_BYTES} bytes{more}")
    data = file.read_bytes()
    if feed.key:
        beside = file.with_name(file.name + detached.SUFFIX)
        signature = beside.read_bytes() if beside.exists() else b""
        _check(feed, data, signature[: detached.MAX_SIGNATURE], file.name)
    return data


async def _fetched(feed: FeedSettings, mark: str) -> list[Pulled]:
    parts = urlsplit(feed.source)
    timeouts = Timeouts(connect=SECONDS, first_byte=SECONDS, idle=SECONDS, total=SECONDS)
    server = Upstream("feed", f"https://{parts.netloc}", [], timeouts=timeouts, tls=tls_context(feed.ca_file))
    target, query = parts.path or "/", f"?{parts.query}" if parts.query else ""
    try:
        asked = [(b"user-agent", b"portcullis"), *([(b"if-none-match", mark.encode("latin-1"))] if mark else [])]
        status, headers, data = await _get(server, target + query, asked, MAX_BYTES)
        tag = dict(headers).get(b"etag", b"").decode("latin-1")[:MAX_MARK] or hashlib.sha256(data).hexdigest()
        if mark and (status == 304 or (status == 200 and tag == mark)):
            return []
        if status != 200:
            raise FeedFault(f"{feed.name}: the server answered {status}")
        if dict(headers).get(b"content-type", b"").lower().startswith(b"text/html"):  # to sign in, or to say sorry
            raise FeedFault(f"{feed.name}: the server answered with a web page")
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
