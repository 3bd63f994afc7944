"""What stands between two texts that clients put together, when the first one holds something at its end. Pure.

Whether it goes on in the second one is known when that begins, and so is what went out of the first one, which the frames
between them say once more: they wait. They come at once, one behind the other, and whatever else comes lets them go.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Final

from gateway.streams.channel_text import ChannelText
from gateway.streams.following import Channel
from gateway.streams.texts import within
from gateway.wires.base import EventKind, StreamEvent
from gateway.wires.frames import Frame

MOST: Final = 16
"""Frames that wait. Between two parts stand two to five."""


class Between:
    """The frames of one stream that wait so.

    Attributes:
        frames: with what they say. channel: the text that has ended.
    """

    __slots__ = ("_family", "_joined", "channel", "frames")

    def __init__(self, joined: AbstractSet[str]) -> None:
        """``joined``: the families of such texts."""
        self._joined = joined
        self.frames: list[tuple[Frame, list[StreamEvent]]] = []
        self.channel: Channel = ()
        self._family = ""

    def begin(self, frame: Frame, events: list[StreamEvent], under_way: Mapping[Channel, ChannelText]) -> bool:
        """Whether a frame waits, since a text ends with it that may go on in another one."""
        ended = _ended(events) if self._joined else []
        if not ended or () in ended or _says_more(events):
            return False
        for channel, text in under_way.items():
            if text.family in self._joined and text.stream.held and within(channel, ended):
                self.channel, self._family = channel, text.family
                self.frames.append((frame, events))
                return True
        return False

    def goes_on(self, frame: Frame, events: list[StreamEvent]) -> bool:
        """Whether a frame that follows waits, too."""
        ended = _ended(events)
        if len(self.frames) >= MOST or () in ended or _says_more(events, within(self.channel, ended)):
            return False
        self.frames.append((frame, events))
        return True

    def joins(self, events: list[StreamEvent]) -> bool:
        """Whether a frame goes on with the text."""
        return any(event.family == self._family and event.text and event.channel[0] != "whole" for event in events)

    def taken(self) -> list[tuple[Frame, list[StreamEvent]]]:
        """They wait no more."""
        frames, self.frames = self.frames, []
        return frames


def _ended(events: list[StreamEvent]) -> list[Channel]:
    return [event.channel for event in events if event.kind is EventKind.STOP]


def _says_more(events: list[StreamEvent], again: bool = True) -> bool:
    """Whether they say more than that something ends or begins; ``again``: what comes whole says something once more."""
    return any(
        event.kind in (EventKind.ERROR, EventKind.AUDIO)
        or (event.path and event.kind is not EventKind.LABEL and not (again and event.channel[0] == "whole"))
        for event in events
    )
