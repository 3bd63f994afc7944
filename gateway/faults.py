"""What can go wrong with a request, by fault; each is translated into the caller's wire format in one place.

A block is a decision and not among these. Messages never show prompt text, keys or header values.
"""

from __future__ import annotations


class Fault(Exception):  # noqa: N818 - the names say whose fault it is
    """A request that gets an error of the gateway's own.

    ``status`` is the HTTP status, ``code`` one of the gateway's error codes; ``headers`` go with the reply.
    """

    def __init__(
        self, status: int, code: str, message: str, headers: tuple[tuple[bytes, bytes], ...] = ()
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = headers


class CallerFault(Fault):
    """The caller sent something that cannot be taken."""


class UpstreamFault(Fault):
    """The provider, or the way to it, failed."""


class OwnFault(Fault):
    """The gateway cannot do its work: overloaded, draining, or a record cannot be kept as the policy demands."""


class ClientGone(Exception):  # noqa: N818
    """The caller left before the reply; there is nobody to answer."""
