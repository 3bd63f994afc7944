"""What a transport is to the service: bytes on two lanes, a peer with a certificate, and an end."""

from __future__ import annotations

from typing import Final, Protocol

LINGER_SECONDS: Final = 0.3
"""How long a connection stays to deliver what was sent before it is closed: a farewell that is dropped says nothing."""

CONNECT_SECONDS: Final = 5.0
"""How long an address may take to answer and prove who it is."""


MAX_CONNECTIONS: Final = 256
"""Connections of one kind that others opened, above which new ones are not answered at all."""


MAX_UNSENT: Final = 32 * 2**20
"""Bytes that a peer has not taken, above which its connection is ended: twice of what windows and questions let be on its way.
Who asks and reads no answer fills it."""


class Wire(Protocol):
    """An open connection. ``version``: the protocol's that both ends speak. ``unsent``: bytes that the peer has not taken."""

    transport: str
    host: str
    version: int

    @property
    def unsent(self) -> int: ...

    def send(self, data: bytes, bulk: bool) -> None: ...

    def close(self, reason: str) -> None: ...


class Owner(Protocol):
    """What transports tell the service."""

    def wire_opened(self, wire: Wire, names: tuple[str, ...], dialed: str | None) -> None:
        """The peer proved that it is one of ``names``."""

    def wire_received(self, wire: Wire, data: bytes, bulk: bool) -> None: ...

    def wire_closed(self, wire: Wire, reason: str) -> None:
        """It is gone; also where it was never opened."""

    def wire_refused(self, reason: str, host: str) -> None:
        """Somebody could not prove anything."""
