"""The port that a gateway listens on."""

from __future__ import annotations

import socket
from typing import Final

BACKLOG: Final = 2048
"""Connections that the kernel keeps for us while all workers are busy."""


def bind(listen: str) -> socket.socket:
    """A socket that listens at ``host:port``; ``[::]`` is every address of the machine, those of IPv4 too.

    Raises:
        OSError: it cannot; its ``strerror`` says why.
    """
    host, _, port = listen.rpartition(":")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    both = host == "::" and socket.has_dualstack_ipv6()
    return socket.create_server((host, int(port)), family=family, backlog=BACKLOG, dualstack_ipv6=both)


def address(listener: socket.socket) -> str:
    """The address that a client on this machine would use."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "127.0.0.1" if socket.has_dualstack_ipv6() else "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
