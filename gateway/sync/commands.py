"""What a node tells its shell to do."""

from __future__ import annotations

from typing import NamedTuple

from gateway.sync import frames
from gateway.sync.frames import Frame
from patterns.entries import Entry


class Send(NamedTuple):
    """Send a frame on a connection."""

    link: int
    frame: Frame

    @property
    def bulk(self) -> bool:
        """Whether it takes the second lane, which others overtake."""
        frame = self.frame
        return isinstance(frame, frames.Listing) or (isinstance(frame, frames.Entries) and not frame.fresh)


class Close(NamedTuple):
    """End a connection, after what was sent before."""

    link: int
    reason: str


class Dial(NamedTuple):
    """Connect to an address; answer with `Node.opened` or `Node.unreachable`."""

    address: str


class Apply(NamedTuple):
    """Verify entries, merge them into the store and make them durable; then call `Node.changed` and `Node.applied`."""

    link: int
    batch: int
    entries: list[Entry]
    fresh: bool


class Warn(NamedTuple):
    """Something that an operator should read."""

    node: str
    text: str


Command = Send | Close | Dial | Apply | Warn
