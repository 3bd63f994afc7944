"""The caller's side of a request: headers, body, and what goes on to the upstream."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final, NamedTuple
from urllib.parse import unquote_to_bytes

from gateway.faults import CallerFault
from gateway.serving.credentials import EXPLICIT
from gateway.serving.credentials import HEADERS as CREDENTIAL_HEADERS
from gateway.wires.base import JSON

Scope = dict[str, Any]
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

# RFC 9110 section 7.6.1: these belong to one connection. The rest are made anew for the next one, or would have the upstream
# take the request for one of another method than was looked at.
_OURS: Final = frozenset(
    b"connection keep-alive proxy-connection proxy-authenticate proxy-authorization te trailer transfer-encoding upgrade "
    b"host content-length accept-encoding expect forwarded x-forwarded-for x-forwarded-host x-forwarded-proto x-real-ip "
    b"cookie x-portcullis-key x-http-method-override x-http-method x-method-override".split()
)
_OVERRIDES: Final = (b"$httpmethod", b"$httpheaders", b"$req", b"$ct")
_UTF8: Final = re.compile(rb";[ \t]*charset=(?:utf-?8|\"utf-?8\")[ \t]*(?=;|$)", re.IGNORECASE)
_ONCE: Final = frozenset({b"content-type", b"content-encoding", b"host"})  # llhttp sees to content-length
_JSON_TYPES: Final = (JSON, b"text/json")


class Head(NamedTuple):
    """What the gateway itself reads of a request's headers.

    Attributes:
        forward: the headers that go on, credentials apart.
        credentials: the headers that carry a key.
        every: both, for an upstream that takes the caller's own key; but for what is the gateway's alone.
        is_json: by its own word the body is JSON in UTF-8.
        is_encoded: the body is compressed or otherwise encoded.
        host: as sent; empty without one.
    """

    forward: tuple[tuple[bytes, bytes], ...]
    credentials: tuple[tuple[bytes, bytes], ...]
    every: tuple[tuple[bytes, bytes], ...]
    is_json: bool
    is_encoded: bool
    host: bytes

    def forwarding(self, forward: tuple[tuple[bytes, bytes], ...]) -> Head:
        """The same with other headers to go on."""
        return self._replace(forward=forward, every=(*forward, *_providers(self.credentials)))

    def knowing(self, credentials: tuple[tuple[bytes, bytes], ...]) -> Head:
        """The same with other credentials."""
        return self._replace(credentials=credentials, every=(*self.forward, *_providers(credentials)))


def read_head(headers: Iterable[tuple[bytes, bytes]]) -> Head:
    """Sort a request's headers (names in lower case).

    Raises:
        CallerFault: a header that must stand once is repeated.
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
    kind, in_utf8 = _media_type(once.get(b"content-type", b""))
    return Head(
        tuple(forward),
        tuple(credentials),
        (*forward, *_providers(credentials)),
        in_utf8 and kind in _JSON_TYPES,
        once.get(b"content-encoding", b"").lower() not in (b"", b"identity"),
        once.get(b"host", b""),
    )


def _media_type(value: bytes) -> tuple[bytes, bool]:
    """The type that a ``content-type`` names, and whether it names no charset but UTF-8."""
    kind, semicolon, parameters = value.partition(b";")
    others = _UTF8.sub(b"", semicolon + parameters)  # another charset, or one that readers may read differently
    return kind.strip().lower(), b"charset" not in others.lower()


def asked(query: bytes) -> bytes:
    """The query that goes on: without the fields by which Google's servers take a request for one of another method, or for one
    with other headers, another body or a body of another type, than was looked at."""
    return b"&".join(part for part in query.split(b"&") if unquote_to_bytes(part.partition(b"=")[0]).lower() not in _OVERRIDES)


def _providers(credentials: Iterable[tuple[bytes, bytes]]) -> Iterable[tuple[bytes, bytes]]:
    """The headers that may carry the caller's key for a provider."""
    return (pair for pair in credentials if pair[0] != EXPLICIT)


def check_body(head: Head, length: int | None, limit: int) -> None:
    """Refuse a body that cannot be screened before any of it is read.

    Args:
        length: as declared, in bytes; None where it was not.

    Raises:
        CallerFault: not JSON by its own word, encoded, or longer than ``limit`` bytes.
    """
    if not head.is_json:
        raise CallerFault(415, "unsupported_media_type", "content-type: wanted application/json in UTF-8")
    if head.is_encoded:
        raise CallerFault(415, "unsupported_encoding", "content-encoding: wanted none; send the body as it is")
    if length is not None and length > limit:
        raise too_large(limit)


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


def read_as(kind: bytes, headers: Headers) -> Headers:
    """Reply headers whose content type says what the body was read as, in UTF-8: clients go by it, and to one that decodes
    UTF-7 the same bytes are another text.

    Args:
        kind: `gateway.wires.base.JSON` or `SSE`.
    """
    said = [value for name, value in headers if name == b"content-type"]
    if len(said) == 1:
        named, in_utf8 = _media_type(said[0])
        is_json = named in _JSON_TYPES or named.endswith(b"+json")
        if in_utf8 and (is_json if kind == JSON else kind.startswith(named + b";")):
            return headers
    return [*(pair for pair in headers if pair[0] != b"content-type"), (b"content-type", kind)]


def beside_a_body(headers: Headers) -> Headers:
    """The upstream's reply headers that hold with a body of ours, too: request ids and limits above all."""
    return [pair for pair in reply_headers(headers, True) if pair[0] != b"content-type"]


# The server in front of us writes a date of its own; the client behind us has dropped what belongs to its connection.
# What a browser would keep of the host that answers, which is the console's, too, is the provider's to say of its own alone.
_OF_THE_HOST: Final = frozenset({b"set-cookie", b"set-cookie2", b"clear-site-data", b"strict-transport-security", b"alt-svc"})
_NOT_PASSED: Final = _OURS | _OF_THE_HOST | {b"date"}
# What describes the very bytes of a body, and is wrong for an edited or decoded one.
_OF_THE_BODY: Final = frozenset({b"content-encoding", b"etag", b"content-md5", b"digest", b"content-digest", b"repr-digest"})
