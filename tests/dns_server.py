"""A name server: one name, whose addresses a test changes at any time (RFC 1035, as much of it as a resolver needs)."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import struct
import threading
from types import TracebackType
from typing import Final, Self

_A: Final = 1
_IN: Final = 1
_HEADER: Final = 12
_ANSWER: Final = 0x8580  # an authoritative answer, without an error


class DnsServer:
    """Answers for ``name`` with ``addresses`` (IPv4, no time to live) on port 53 of ``host``; counts what it was ``asked``."""

    def __init__(self, host: str, name: str) -> None:
        self.addresses: tuple[str, ...] = ()
        self.asked = 0
        self._name = b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.bind((host, 53))
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sock.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):  # until it is closed
            while True:
                query, sender = self._sock.recvfrom(512)
                self.asked += 1
                self._sock.sendto(self._answer(query), sender)

    def _answer(self, query: bytes) -> bytes:
        end = query.index(b"\0", _HEADER) + 1
        kind, _ = struct.unpack_from("!HH", query, end)
        asked = query[_HEADER : end + 4]
        ours = kind == _A and query[_HEADER:end].lower() == self._name
        found = [ipaddress.IPv4Address(one).packed for one in self.addresses] if ours else []
        records = b"".join(struct.pack("!HHHIH", 0xC000 | _HEADER, _A, _IN, 0, len(one)) + one for one in found)
        return query[:2] + struct.pack("!HHHHH", _ANSWER, 1, len(found), 0, 0) + asked + records
