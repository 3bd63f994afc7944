"""The caller's side of a request: headers, body, and what goes on to the upstream."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final, NamedTuple

from gateway.credentials import HEADERS as CREDENTIAL_HEADERS
from gateway.faults import CallerFault, ClientGone

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

# RFC 9110 section 7.6.1: these belong to one connection. The rest are made anew for the next one.
_OURS: Final = frozenset(
    b"connection keep-alive proxy-connection proxy-authenticate proxy-authorization te trailer transfer-encoding upgrade "
    b"host content-length accept-encoding expect forwarded x-forwarded-for x-forwarded-host x-forwarded-proto x-real-ip "
    b"cookie x-portcullis-key".split()
)
_ONCE: Final = frozenset({b"content-type", b"content-encoding", b"host", b"content-length"})
_JSON_TYPES: Final = (b"application/json", b"text/json")


class Head(NamedTuple):
    """What the gateway itself reads of a request's headers; ``forward`` are those that go on, credentials apart."""

    forward: Headers
    credentials: Headers
    content_type: bytes
    content_encoding: bytes
    content_length: int | None
    host: bytes


def read_head(headers: Iterable[tuple[bytes, bytes]]) -> Head:
    """Sort a request's headers (names in lower case, as ASGI gives them).

    Raises:
        CallerFault: a header that must stand once is repeated, or the length is no number.
    """
    forward: Headers = []
    credentials: Headers = []
    once: dict[bytes, bytes] = {}
    named: tuple[bytes, ...] = ()
    for pair in headers:
        name = pair[0]
        if name in _ONCE:
            if name in once:
                raise CallerFault(400, "repeated_header", f"the header {name.decode()} is repeated; send it once")
            once[name] = pair[1]
        if name in CREDENTIAL_HEADERS:
            credentials.append(pair)
        elif name not in _OURS:
            forward.append(pair)
        elif name == b"connection" and pair[1].lower() not in (b"keep-alive", b"close"):
            named += tuple(item.strip().lower() for item in pair[1].split(b","))
    if named:
        forward = [pair for pair in forward if pair[0] not in named]
    length = once.get(b"content-length")
    if length is not None and not length.isdigit():
        raise CallerFault(400, "invalid_header", "the header content-length is not a number")
    return Head(
        forward,
        credentials,
        once.get(b"content-type", b""),
        once.get(b"content-encoding", b""),
        None if length is None else int(length),
        once.get(b"host", b""),
    )


def check_body_headers(head: Head, limit: int) -> None:
    """Refuse a body that cannot be screened before any of it is read.

    Raises:
        CallerFault: not JSON by its own word, encoded, or longer than ``limit`` bytes.
    """
    kind, _, parameters = head.content_type.partition(b";")
    charset = parameters.partition(b"charset=")[2].strip(b' "').lower()
    if kind.strip().lower() not in _JSON_TYPES or charset not in (b"", b"utf-8", b"utf8"):
        raise CallerFault(415, "unsupported_media_type", "content-type: wanted application/json in UTF-8")
    if head.content_encoding not in (b"", b"identity"):
        raise CallerFault(415, "unsupported_encoding", "content-encoding: wanted none; send the body as it is")
    if head.content_length is not None and head.content_length > limit:
        raise too_large(limit)


async def read_body(receive: Receive, limit: int) -> bytes:
    """Read the whole body.

    Raises:
        CallerFault: it is longer than ``limit`` bytes.
        ClientGone: the caller left before its end.
    """
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientGone
    body: bytes = message.get("body", b"")
    if message.get("more_body", False):
        pieces = [body]
        size = len(body)
        while message.get("more_body", False):
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            piece = message.get("body", b"")
            pieces.append(piece)
            size += len(piece)
            if size > limit:
                raise too_large(limit)
        body = b"".join(pieces)
    if len(body) > limit:
        raise too_large(limit)
    return body


def too_large(limit: int) -> CallerFault:
    return CallerFault(413, "body_too_large", f"the body is larger than {limit} bytes", ((b"connection", b"close"),))


def reply_headers(headers: Headers, changed: bool) -> Headers:
    """The upstream's reply headers that go to the caller; ``changed`` where the body is not the very bytes received."""
    return [
        pair
        for pair in headers
        if pair[0] not in _NOT_PASSED
        and not pair[0].startswith(b"x-portcullis-")
        and not (changed and pair[0] in _OF_THE_BODY)
    ]


# The server in front of us writes a date of its own; the client behind us has dropped what belongs to its connection.
_NOT_PASSED: Final = _OURS | {b"date"}
# What describes the very bytes of a body, and is wrong for an edited or decoded one.
_OF_THE_BODY: Final = frozenset({b"content-encoding", b"etag", b"content-md5", b"digest", b"content-digest", b"repr-digest"})
