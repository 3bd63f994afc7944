"""Taking note of what a streamed reply says: for who judges it, for the record, and of whether it gives its prompt away."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from detectors.leakage import DETECTOR, THREAT, Leak, Leakage
from gateway.streams.following import Channel, Cut, Follower
from gateway.streams.said import Said
from gateway.streams.steps import Steps
from gateway.wires.base import EventKind, StreamEvent

SLICE: Final = 256
"""Code points that are screened at once: some 20 µs of ordinary text, some 3 ms where all of it is values."""

LONG: Final = 4_096
"""Bytes from which on a frame is read in a thread, some 10 ms a megabyte, and not looked at as one more of its kind."""

PROSE: Final = frozenset({EventKind.TEXT, EventKind.REASONING, EventKind.REFUSAL})


_GIVEN: Final = frozenset({EventKind.TOOL, EventKind.CODE})
_CALLS: Final = frozenset("functionCall function_call tool_calls content_block item arguments input".split())
"""What holds a tool call in a frame, of whatever wire, on the way to its texts."""


def is_call(event: StreamEvent) -> bool:
    """Whether an event's text is of a tool call, or may be: a client runs the call that it has, whatever comes after it."""
    return event.kind in _GIVEN or (event.kind is EventKind.OTHER and not _CALLS.isdisjoint(event.path))


class Listening:
    """What one stream says. ``cut`` is what it is to be cut for, once it gives too much away."""

    __slots__ = ("_follower", "_gives_away", "_leakage", "cut", "said")

    def __init__(self, follower: Follower | None, leakage: Leakage | None, gives_away: Callable[[Leak], bool]) -> None:
        self._follower = follower
        self._leakage = leakage
        self._gives_away = gives_away
        self.said = Said()
        self.cut: Cut | None = None

    def hear(self, event: StreamEvent, last: bool = False) -> None:
        """Take note of an event's text, a short one; ``last``: its channel is over with it."""
        self._note(event)
        if self._leakage is not None:
            self._tell(self._leakage.feed(event.channel, event.text))
            if last:
                self.over(event.channel)

    def hear_long(self, event: StreamEvent, last: bool) -> Steps[None]:
        """As `hear`, of a text of any length."""
        self._note(event)
        if self._leakage is not None:
            for piece in slices(event.text):
                yield None
                self._tell(self._leakage.feed(event.channel, piece))
            if last:
                self.over(event.channel)

    def over(self, channel: Channel) -> None:
        """A text is over."""
        if self._leakage is not None:
            self._tell(self._leakage.finish(channel))

    def _note(self, event: StreamEvent) -> None:
        called = event.kind not in PROSE
        if called:
            self.said.calls.add(event.channel)
        if self._follower is not None:
            self._follower.feed(event.channel, event.text, called)
        self.said.add(event)

    def _tell(self, leak: Leak | None) -> None:
        if leak is not None and self.cut is None and self._gives_away(leak):
            channel = leak.channel if isinstance(leak.channel, tuple) else ()
            self.cut = Cut(THREAT, leak.cause, DETECTOR, leak.score, channel)


def slices(text: str) -> Iterator[str]:
    """A text in pieces of at most `SLICE`; of an empty one, that."""
    return (text[at : at + SLICE] for at in range(0, len(text) or 1, SLICE))
