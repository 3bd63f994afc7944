"""What a session takes of its caller's limits: each response counts as a request, and bytes and tokens as they are said."""

from __future__ import annotations

from gateway.exchange import Exchange
from gateway.limits.limiter import Limiter
from gateway.realtime.conversation import Event


class Allowance:
    """The limits of one session.

    Attributes:
        usage: what the upstream says of tokens, None where no limit counts them. moving: the turn that is being relayed, whose
            bytes are not the opening's yet.
    """

    def __init__(self, limiter: Limiter, opening: Exchange) -> None:
        """``opening``: the handshake's exchange, which was admitted; this goes on where it ends."""
        self.moving: Exchange | None = None
        self._limiter = limiter
        self._opening = opening
        self._metered, opening.metered = opening.metered, None
        self.usage = self._metered.usage if self._metered is not None else None
        self._spent = 0  # bytes
        self._owed = 0

    def admit(self) -> None:
        """Count a response as a request.

        Raises:
            CallerFault: there is no room for it.
        """
        self.spend()
        self._metered = self._limiter.admit(self._opening.principal)

    def owe(self, event: Event) -> None:
        """An event of the client goes on: the response that it asks for was counted."""
        self._owed += event["type"] == "response.create"

    def began(self) -> None:
        """A response began: it is one that was counted, or else it is counted now, since nobody asked for it.

        Raises:
            CallerFault: there is no room for it.
        """
        if self._owed:
            self._owed -= 1
        else:
            self.admit()

    def spend(self) -> None:
        """Count what was said since the last time."""
        total = self._opening.bytes_in + self._opening.bytes_out + (self.moving.bytes_out if self.moving else 0)
        if self._metered is not None:
            tokens = self.usage.take() if self.usage is not None else 0
            self._limiter.spend(self._metered, total - self._spent, tokens)
        self._spent = total
