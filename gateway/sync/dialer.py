"""Which transport a peer is reached by: QUIC where UDP gets through, else TCP until it does."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterable
from typing import Final, Literal

from gateway.sync.addresses import split
from gateway.sync.quic import QuicEndpoint
from gateway.sync.tcp import TcpEndpoint

HEAD_START_SECONDS: Final = 1.0
"""How long QUIC may try alone before TCP tries beside it."""

UPGRADE_SECONDS: Final = 30.0
"""How often QUIC is tried again towards a peer that is connected by TCP."""


class Dialer:
    """Dials. ``fallbacks`` counts the addresses that QUIC did not reach and TCP did."""

    def __init__(self, transport: Literal["auto", "quic", "tcp"], quic: QuicEndpoint, tcp: TcpEndpoint) -> None:
        self.fallbacks = 0
        self._transport = transport
        self._quic = quic
        self._tcp = tcp
        self._by_tcp: dict[str, float] = {}  # addresses reached by TCP, and when to try QUIC again

    async def dial(self, address: str) -> None:
        """QUIC with a head start over TCP; the first that stands is it, and QUIC replaces TCP when it comes after all. It has
        its whole time, also where TCP fails.

        Raises:
            OSError: it cannot be reached.
        """
        host, port = split(address)
        transport = self._transport
        if transport == "tcp":
            await self._tcp.dial(address, host, port)
            return
        quic = asyncio.ensure_future(self._quic.dial(address, host, port))
        try:
            if transport == "auto" and address in self._by_tcp:
                await asyncio.wait([quic], timeout=0.0)
            elif transport == "auto":
                await asyncio.wait([quic], timeout=HEAD_START_SECONDS)
            if transport == "quic" or quic.done():
                with contextlib.suppress(OSError):
                    await quic
                    self._by_tcp.pop(address, None)
                    return
                if transport == "quic":
                    quic.result()
            tcp = asyncio.ensure_future(self._tcp.dial(address, host, port))
            await asyncio.wait([tcp])
            if tcp.exception() is not None:  # it may be refused at once, which says nothing of UDP
                await quic
                self._by_tcp.pop(address, None)
                return
            if address not in self._by_tcp:
                self.fallbacks += 1
            self._by_tcp[address] = time.monotonic() + UPGRADE_SECONDS
            with contextlib.suppress(OSError):
                await quic
                self._by_tcp.pop(address, None)
        finally:
            quic.cancel()
            await asyncio.gather(quic, return_exceptions=True)

    def due(self, over_tcp: Iterable[str], now: float) -> list[str]:
        """Of the addresses that are connected by TCP, those to `upgrade` now."""
        found = [address for address in over_tcp if now >= self._by_tcp.get(address, float("inf"))]
        self._by_tcp.update(dict.fromkeys(found, now + UPGRADE_SECONDS))
        return found

    async def upgrade(self, address: str) -> None:
        """Try QUIC towards a peer that is connected by TCP."""
        with contextlib.suppress(OSError):
            await self._quic.dial(address, *split(address))
            self._by_tcp.pop(address, None)
