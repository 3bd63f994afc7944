"""Opening a connection: names to addresses, the race between IPv6 and IPv4 (RFC 8305), and TLS."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Coroutine
from itertools import chain, zip_longest
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

from gateway.upstream.errors import ConnectFailed, TimedOut

ATTEMPT_DELAY: Final = 0.25
"""Seconds until the next address is tried beside one that does not answer (RFC 8305 §5)."""


class Abortable(asyncio.BaseProtocol):
    """A protocol whose connection can be closed at once."""

    __slots__ = ()

    def abort(self) -> None:
        """Close."""
        raise NotImplementedError


P = TypeVar("P", bound=Abortable)


class Origin(NamedTuple):
    """Where an upstream is: fixed by the configuration."""

    host: str
    port: int
    tls: ssl.SSLContext | None


def tls_context(ca_file: Path | None = None) -> ssl.SSLContext:
    """A client's context: certificate and name verified, TLS 1.2 or newer.

    Args:
        ca_file: certificates to trust instead of the system's.

    Raises:
        OSError: the file cannot be read or holds no certificate.
    """
    context = ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


async def dial(origin: Origin, protocol: Callable[[], P], seconds: float) -> P:
    """Open a connection and return its protocol. The factory may be called several times: losers are closed.

    Raises:
        ConnectFailed: no address answered, or TLS failed.
        TimedOut: it took longer than `seconds`.
    """
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(seconds):
            hosts = await _resolve(loop, origin)
            return await _race(loop, [_open(loop, origin, host, protocol) for host in hosts])
    except TimeoutError:
        raise TimedOut("connect") from None
    except (OSError, UnicodeError) as error:
        raise ConnectFailed(_reason(error)) from None


async def _resolve(loop: asyncio.AbstractEventLoop, origin: Origin) -> list[str]:
    found = await loop.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
    first = [where[0] for family, *_, where in found if family == found[0][0]]
    second = [where[0] for family, *_, where in found if family != found[0][0]]
    # Families take turns (RFC 8305 §4); which goes first is the resolver's order (RFC 6724).
    return [str(host) for host in chain.from_iterable(zip_longest(first, second)) if host is not None]


async def _open(loop: asyncio.AbstractEventLoop, origin: Origin, host: str, protocol: Callable[[], P]) -> P:
    name = origin.host if origin.tls else None
    _, made = await loop.create_connection(protocol, host, origin.port, ssl=origin.tls, server_hostname=name)
    return made


async def _race(loop: asyncio.AbstractEventLoop, attempts: list[Coroutine[None, None, P]]) -> P:
    """The first that succeeds. Each has a head start over the next, unless it fails sooner."""
    waiting = attempts[::-1]
    running: set[asyncio.Task[P]] = set()
    error: BaseException = OSError("the name has no address")
    try:
        while waiting or running:
            if waiting:
                running.add(loop.create_task(waiting.pop()))
            delay = ATTEMPT_DELAY if waiting else None
            done, running = await asyncio.wait(running, timeout=delay, return_when=asyncio.FIRST_COMPLETED)
            won = [task for task in done if task.exception() is None]
            if won:
                running.update(won[1:])
                return won[0].result()
            error = next((failed for task in done if (failed := task.exception())), error)
        raise error
    finally:
        for attempt in waiting:
            attempt.close()
        for task in running:
            task.cancel()
            task.add_done_callback(_close_loser)


def _close_loser(task: asyncio.Task[P]) -> None:
    if not task.cancelled() and task.exception() is None:
        task.result().abort()


def _reason(error: OSError | UnicodeError) -> str:
    """Why, in words that hold no address: they may reach the caller."""
    if isinstance(error, socket.gaierror | UnicodeError):
        return "the upstream's name does not resolve"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the upstream's certificate is not accepted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return "the TLS handshake failed"
    if isinstance(error, ConnectionRefusedError):
        return "the upstream refused the connection"
    return f"the upstream cannot be reached: {type(error).__name__}"
