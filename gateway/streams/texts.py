"""The texts of one stream that is relayed: those under way, those that are over, and those that are over for good."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from detectors.values import Path
from gateway.streams.channel_text import ChannelText
from gateway.streams.following import Channel
from gateway.wires.base import Malformed, StreamEvent
from gateway.wires.frames import Frame

MAX_OPEN: Final = 1_024
"""Texts that are under way at once: each holds its place in the patterns. A reply has a few."""


class Read(NamedTuple):
    """A frame that was read: what takes its texts' places, where each channel's stands, which end, and are over for good."""

    frame: Frame
    events: list[StreamEvent]
    edits: dict[Path, str]
    carried: dict[Channel, Path]
    ends: list[Channel]
    over: list[Channel]


def within(channel: Channel, prefixes: Sequence[Channel]) -> bool:
    return any(channel[: len(prefix)] == prefix for prefix in prefixes)


class Texts:
    """By channel. ``open`` are those under way."""

    __slots__ = ("_ended", "_paused", "open")

    def __init__(self) -> None:
        self.open: dict[Channel, ChannelText] = {}
        self._paused: dict[Channel, ChannelText] = {}
        self._ended: set[Channel] = set()

    def begin(self, channel: Channel, text: str, opened: Callable[[], ChannelText]) -> ChannelText | None:
        """A channel that is not under way says ``text``; None where it was over for good: this may be half a value.

        Raises:
            Malformed: too many are under way.
        """
        if len(self.open) >= MAX_OPEN:
            raise Malformed(channel, text, f"at most {MAX_OPEN} texts under way at once")
        if channel in self._ended and text:
            return None
        self.open[channel] = known = self._paused.pop(channel) if channel in self._paused else opened()
        return known

    def take(self, prefix: Channel) -> list[tuple[Channel, ChannelText]]:
        """Those under way whose channels begin with ``prefix``: they are over."""
        over = [one for one in self.open if within(one, (prefix,))]
        return [(channel, self.open.pop(channel)) for channel in over]

    def pause(self, channel: Channel, text: ChannelText) -> None:
        """One is over of which all went out: should it go on, it is known what stands before that."""
        self._paused[channel] = text
        if len(self._paused) > MAX_OPEN:
            channel = next(iter(self._paused))
            self.end(channel, self._paused.pop(channel))

    def end(self, channel: Channel, text: ChannelText) -> None:
        """One is over for good."""
        text.stream.close()
        self._ended.add(channel)

    def close(self) -> None:
        """Free what they hold."""
        for text in (*self.open.values(), *self._paused.values()):
            text.stream.close()
