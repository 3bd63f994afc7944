"""Tickets of QUIC sessions, by which a client resumes without a handshake."""

from __future__ import annotations

import datetime
from collections import OrderedDict
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from aioquic.tls import SessionTicket

MAX_TICKETS: Final = 1_024
"""Clients that may resume."""

TICKET_SECONDS: Final = 3_600.0
"""How long after its handshake a client may resume without showing its certificate again."""


class Remembered(NamedTuple):
    """A ticket, whom it was given to or by, and the protocol's version that was spoken, in which early data is, too."""

    ticket: SessionTicket
    names: tuple[str, ...]
    host: str
    version: int


class Tickets:
    """Tickets by their bytes (as a server) or by address (as a client). Bounded; the oldest goes first."""

    def __init__(self) -> None:
        self._kept: OrderedDict[object, Remembered] = OrderedDict()

    def put(self, key: object, remembered: Remembered) -> None:
        self._kept[key] = remembered
        self._kept.move_to_end(key)
        while len(self._kept) > MAX_TICKETS:
            self._kept.popitem(last=False)

    def take(self, key: object) -> Remembered | None:
        """The ticket if it is valid. It is used once: whoever shows a client's again, replays (RFC 8446, section 8.1)."""
        found = self._kept.pop(key, None)
        if found is None or not found.ticket.is_valid:
            return None
        age = datetime.datetime.now(datetime.UTC) - found.ticket.not_valid_before
        return found if age.total_seconds() <= TICKET_SECONDS else None

    def clear(self) -> None:
        self._kept.clear()
