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


MAX_TOTAL: Final = 8 * MAX_SAID
"""The same of all channels together: there may be fifty thousand."""

MANY: Final = 1_000
"""Matches of which each is remembered; after these, only one of a kind: those of a channel that are the same pattern's."""


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
        unread: code points beyond `MAX_SAID` and `MAX_TOTAL`, which nobody will look at once more.
    """

    __slots__ = ("_kept", "_total", "calls", "texts", "unread")

    def __init__(self) -> None:
        self.texts: dict[Channel, list[str]] = {}
        self.calls: set[Channel] = set()
        self.unread = 0
        self._kept: dict[Channel, int] = {}
        self._total = 0

    def add(self, event: StreamEvent) -> None:
        """Keep an event's text.

        Raises:
            Malformed: there are more texts than a wire takes.
        """
        channel = event.channel
        if channel not in self._kept and len(self._kept) >= MAX_PARTS:
            raise Malformed(event.path, event.text, f"at most {MAX_PARTS} texts in one stream")
        kept = self._kept.get(channel, 0) + len(event.text)
        if kept > MAX_SAID or self._total + len(event.text) > MAX_TOTAL:
            self.unread += len(event.text)
            return
        self._kept[channel] = kept
        self._total += len(event.text)
        self.texts.setdefault(channel, []).append(event.text)


class Acted:
    """What of one stream was acted on: ``seen``, in order, see `MANY`."""

    __slots__ = ("_kinds", "seen")

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self._kinds: set[tuple[Channel, str, Act]] = set()

    def add(self, channel: Channel, match: Match, act: Act) -> None:
        """A match was acted on."""
        kind = (channel, match.pattern.id, act)
        if len(self.seen) < MANY or kind not in self._kinds:
            self._kinds.add(kind)
            self.seen.append(Seen(channel, match, act))
