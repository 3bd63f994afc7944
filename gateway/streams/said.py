"""What the upstream said in a stream, kept until its end, when it is looked at as a whole."""

from __future__ import annotations

from typing import Final, NamedTuple

from detectors.lexical import Match
from detectors.streamrules import Act
from gateway.streams.following import Channel
from gateway.wires.base import Malformed, StreamEvent
from gateway.wires.collecting import MAX_PARTS

MAX_SAID: Final = 2**20
"""Code points of one channel that are kept: what only needs a report is looked for in these."""


class Seen(NamedTuple):
    """A match in a stream that was acted on: where it was, and what was done about it."""

    channel: Channel
    match: Match
    act: Act


class Said:
    """The texts of one stream.

    Attributes:
        texts: by channel, in pieces, in the order in which channels began.
        calls: the channels of tool calls.
        unread: code points beyond `MAX_SAID`, which nobody will look at once more.
    """

    __slots__ = ("_kept", "calls", "texts", "unread")

    def __init__(self) -> None:
        self.texts: dict[Channel, list[str]] = {}
        self.calls: set[Channel] = set()
        self.unread = 0
        self._kept: dict[Channel, int] = {}

    def add(self, event: StreamEvent) -> None:
        """Keep an event's text.

        Raises:
            Malformed: there are more texts than a wire takes.
        """
        channel = event.channel
        if channel not in self._kept and len(self._kept) >= MAX_PARTS:
            raise Malformed(event.path, event.text, f"at most {MAX_PARTS} texts in one stream")
        kept = self._kept.get(channel, 0) + len(event.text)
        if kept > MAX_SAID:
            self.unread += len(event.text)
            return
        self._kept[channel] = kept
        self.texts.setdefault(channel, []).append(event.text)
