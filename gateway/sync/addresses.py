"""Addresses as they are written, `host:port`, and sockets on them."""

from __future__ import annotations

import socket
from typing import Final

RECEIVE_BYTES: Final = 2 * 2**20
"""Datagrams that may wait to be read while this process does something else, in bytes with what the kernel adds. Linux gives no
more than `net.core.rmem_max`, and 208 KiB unless asked, which a burst of ninety packets fills."""


def split(address: str) -> tuple[str, int]:
    """Host and port of an address."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def joined(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def bound(host: str, port: int) -> tuple[socket.socket, socket.socket]:
    """A UDP and a listening TCP socket on one port.

    Raises:
        OSError: it is taken, or the address is not of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    tcp = socket.create_server((host, port), family=family, backlog=64)
    udp = datagrams(family)
    try:
        udp.bind((host, tcp.getsockname()[1]))
    except OSError:
        tcp.close()
        udp.close()
        raise
    return udp, tcp


def datagrams(family: int) -> socket.socket:
    """A UDP socket that does not block."""
    made = socket.socket(family, socket.SOCK_DGRAM)
    made.setblocking(False)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
    return made
