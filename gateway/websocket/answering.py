"""A caller who asks for a WebSocket: what he offers, checked as RFC 6455 §4.2.1 demands. Pure."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable
from typing import Final, NamedTuple

from gateway.faults import CallerFault
from gateway.serving.inbound import Headers

HANDSHAKE: Final = frozenset(
    {b"sec-websocket-key", b"sec-websocket-version", b"sec-websocket-protocol", b"sec-websocket-extensions",
     b"sec-websocket-accept", b"origin"}
)  # fmt: skip
"""Headers about one connection that are never carried to the next."""

KEY_PROTOCOL: Final = "openai-insecure-api-key."
"""How a web page, which can set no header, sends its key: as a subprotocol's name."""

REALTIME: Final = "realtime"
"""The subprotocol of a session; what else is offered tells of the client."""

_VERSION: Final = b"13"
_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_ANSWERS: Final = ((b"upgrade", b"websocket"), (b"sec-websocket-version", _VERSION))


class Offer(NamedTuple):
    """What a caller offers. ``token`` is what proves that his handshake was read; ``key`` came as a subprotocol."""

    token: bytes
    protocols: tuple[str, ...]
    key: str
    origin: bytes | None

    def answer(self) -> Headers:
        """The headers that agree."""
        chosen = [(b"sec-websocket-protocol", REALTIME.encode())] if REALTIME in self.protocols else []
        return [(b"upgrade", b"websocket"), (b"connection", b"Upgrade"), (b"sec-websocket-accept", self.token), *chosen]


def read_offer(headers: Iterable[tuple[bytes, bytes]]) -> Offer:
    """Read the headers of a handshake (names in lower case).

    Raises:
        CallerFault: it is none, or one of another version.
    """
    found: dict[bytes, list[bytes]] = {}
    for name, value in headers:
        found.setdefault(name, []).append(value)
    if b"websocket" not in _tokens(found.get(b"upgrade", [])) or b"upgrade" not in _tokens(found.get(b"connection", [])):
        raise CallerFault(426, "upgrade_required", "this path is a WebSocket's: wanted upgrade and connection", _ANSWERS)
    if found.get(b"sec-websocket-version") != [_VERSION]:
        raise CallerFault(426, "upgrade_required", "sec-websocket-version: wanted 13, once", _ANSWERS)
    keys = found.get(b"sec-websocket-key", [])
    if len(keys) != 1 or not _is_key(keys[0]):
        raise CallerFault(400, "invalid_header", "sec-websocket-key: wanted 16 bytes in base64, once")
    origins = found.get(b"origin", [])
    if len(origins) > 1:
        raise CallerFault(400, "repeated_header", "the header origin is repeated; send it once")
    names = [name.strip() for value in found.get(b"sec-websocket-protocol", []) for name in value.decode("latin-1").split(",")]
    if len(set(names)) != len(names) or not all(_TOKEN.fullmatch(name) for name in names):
        raise CallerFault(400, "invalid_header", "sec-websocket-protocol: wanted names, each once")
    secrets = [name.removeprefix(KEY_PROTOCOL) for name in names if name.startswith(KEY_PROTOCOL)]
    if len(secrets) > 1:
        raise CallerFault(400, "ambiguous_key", "sec-websocket-protocol holds two keys; send one")
    others = tuple(name for name in names if not name.startswith(KEY_PROTOCOL))
    return Offer(_token(keys[0]), others, "".join(secrets), origins[0] if origins else None)


def _tokens(values: list[bytes]) -> set[bytes]:
    return {token.strip().lower() for value in values for token in value.split(b",")}


def _token(key: bytes) -> bytes:
    """What proves that a handshake with this key was read."""
    return base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())


def _is_key(value: bytes) -> bool:
    try:
        return len(base64.b64decode(value, validate=True)) == 16 and len(value) == 24
    except binascii.Error:
        return False
