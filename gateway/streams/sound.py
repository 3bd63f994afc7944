"""Audio that waits for what was said in it to be judged. Pure.

Nobody listens to audio here. A policy that waits plays it only when its transcript is complete and was judged, and not at all
where it has none, or where something was taken out of that: a value that is redacted in writing would be heard.
"""

from __future__ import annotations

from typing import Final

from gateway.streams.following import Channel
from gateway.wires.base import Malformed
from gateway.wires.frames import Frame

WITHHELD: Final = "audio, withheld"
"""What became of audio that did not go out."""

MAX_PARTS: Final = 1_024
"""Parts with audio in one stream. A reply has a few."""

MAX_HELD: Final = 32 * 2**20
"""Bytes of audio that wait at once: eight minutes of speech (24,000 samples a second of 16 bits, in base64)."""


class Sound:
    """The audio of one stream, by its transcript's channel.

    Attributes:
        waits: whether it does so for its transcript; else it passes, whatever it says.
        unheard: what became of it, to which nobody listens.
    """

    __slots__ = ("_held", "_size", "unheard", "waits")

    def __init__(self, waits: bool = True) -> None:
        self.waits = waits
        self.unheard: dict[Channel, str] = {}
        self._held: dict[Channel, list[Frame]] = {}
        self._size = 0

    def note(self, channel: Channel, what: str) -> None:
        """There is audio of a channel, and this became of it, where nothing else did before.

        Raises:
            Malformed: there are too many of them.
        """
        if channel not in self.unheard and len(self.unheard) >= MAX_PARTS:
            raise Malformed((), "", f"at most {MAX_PARTS} parts in one stream that nobody reads")
        self.unheard.setdefault(channel, what)

    def hold(self, channel: Channel, frame: Frame) -> bool:
        """Keep a frame back; False where there is no room for it."""
        self._size += len(frame.raw)
        if self._size > MAX_HELD:
            return False
        self._held.setdefault(channel, []).append(frame)
        return True

    def ended(self, prefix: Channel) -> list[tuple[Channel, list[Frame]]]:
        """The audio of the channels that begin with ``prefix``, whose texts are over; it is not kept any more."""
        over = [channel for channel in self._held if channel[: len(prefix)] == prefix]
        found = [(channel, self._held.pop(channel)) for channel in over]
        self._size -= sum(len(frame.raw) for _, frames in found for frame in frames)
        return found
