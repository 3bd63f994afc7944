"""The texts of one stream that is relayed: those under way, those that are over, and those that are over for good."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from detectors.values import Path
from gateway.streams.channel_text import ChannelText
from gateway.streams.following import Channel
from gateway.streams.listening import SLICE
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
    """By channel. ``open`` are those under way; ``together``, of each family that a frame says whole, the last one of it."""

    __slots__ = ("_again", "_ended", "_forgotten", "_last", "_paused", "_told", "open", "together")

    def __init__(self) -> None:
        self.together: dict[str, ChannelText] = {}
        self.open: dict[Channel, ChannelText] = {}
        self._last: dict[str, Channel] = {}  # of each family, the text that was over last
        self._again: dict[Channel, str] = {}  # what went out of texts that were not read by themselves alone
        self._forgotten: set[Channel] = set()  # more of these than are kept
        self._paused: dict[Channel, ChannelText] = {}
        self._told: dict[Channel, str] = {}  # what a text was said to be before any piece of it came
        self._ended: set[Channel] = set()

    def begin(self, event: StreamEvent, opened: Callable[[ChannelText | None], ChannelText]) -> ChannelText | None:
        """A channel that is not under way says something; None where it was over for good: this may be half a value. ``opened``
        makes the text, which goes on with the one of its family that it is given.

        Raises:
            Malformed: too many are under way.
        """
        channel = event.channel
        if len(self.open) >= MAX_OPEN:
            raise Malformed(channel, event.text, f"at most {MAX_OPEN} texts under way at once")
        if channel in self._ended and event.text:
            return None
        known = self._paused.pop(channel, None)
        if known is None:
            before = self._last.pop(event.family, ()) if event.family else ()
            over = self._paused.pop(before, None)
            if over is not None:
                self._ended.add(before)
            known = opened(over)
            if (told := self._told.pop(channel, "")) and not known.before:
                known.follow(told)
        self.open[channel] = known
        return known

    def of_family(self, family: str) -> list[Channel]:
        """Those under way that are of that family."""
        return [channel for channel, text in self.open.items() if text.family == family]

    def told_again(self, prefix: Channel) -> bool:
        """Whether of one under way whose channel begins so something else may go out than what is found in it by itself."""
        return any((text.family or text.kept) and within(channel, (prefix,)) for channel, text in self.open.items())

    def close_whole(self, text: ChannelText) -> None:
        """A text that came whole was read; others of its family may follow in its frame."""
        if text.family:
            self.together[text.family] = text
        else:
            text.stream.close()

    def part(self) -> None:
        """A frame is over."""
        while self.together:
            self.together.popitem()[1].stream.close()

    def take(self, prefix: Channel) -> list[tuple[Channel, ChannelText]]:
        """Those under way whose channels begin with ``prefix``: they are over."""
        over = [one for one in self.open if within(one, (prefix,))]
        return [(channel, self.open.pop(channel)) for channel in over]

    def pause(self, channel: Channel, text: ChannelText) -> None:
        """One is over of which all went out: should it go on, it is known what stands before that."""
        self._paused[channel] = text
        if text.family:
            self._last[text.family] = channel
        if len(self._paused) > MAX_OPEN:
            channel = next(iter(self._paused))
            first = self._paused.pop(channel)
            if self._last.get(first.family) == channel:
                del self._last[first.family]
            self.end(channel, first)

    def tell(self, channel: Channel, text: str) -> None:
        """A text is said to be this, of which no piece has come: some clients put the pieces behind it."""
        if channel in self.open or channel in self._paused:
            return
        self._told[channel] = text[-SLICE:]
        if len(self._told) > MAX_OPEN:
            del self._told[next(iter(self._told))]

    def keep(self, channel: Channel, released: str | None) -> None:
        """That is what went out of a text, None where it is what goes out of it by itself: `again`."""
        if released is None:
            self._again.pop(channel, None)
            self._forgotten.discard(channel)
        elif channel in self._again or len(self._again) < MAX_OPEN:
            self._again[channel] = released
        else:
            self._forgotten.add(channel)

    def again(self, channel: Channel) -> str | None:
        """What goes out where a text is said once more that was not read by itself alone, where that is something else: nothing
        of what is not known any more."""
        return self._again.get(channel, "" if channel in self._forgotten else None)

    def end(self, channel: Channel, text: ChannelText) -> None:
        """One is over for good."""
        text.stream.close()
        self._ended.add(channel)

    def close(self) -> None:
        """Free what they hold."""
        for text in (*self.open.values(), *self._paused.values()):
            text.stream.close()
