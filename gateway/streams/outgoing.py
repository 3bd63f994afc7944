"""What of a stream goes out and when, and the reader that follows it: that one knows how to end the stream."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from gateway.streams.following import Follower
from gateway.streams.listening import LONG
from gateway.wires.base import StreamReader
from gateway.wires.frames import Frame

IN_STEP: Final = 64
"""Frames that went out before the reader that ends the stream learns of them: reading each twice costs a quarter of a relay."""


class Outgoing:
    """The frames of one stream on their way out.

    Attributes:
        released: code points in frames that went out.
    """

    __slots__ = ("_follower", "_out", "_reader", "_unread", "_unread_alike", "_unread_bytes",
                 "_waiting", "released")

    def __init__(self, reader: StreamReader, follower: Follower | None) -> None:
        """
        Args:
            reader: one of the stream's wire that has read nothing yet.
            follower: tells what was judged; None lets all go at once.
        """
        self._reader = reader
        self._follower = follower
        self._unread: list[Frame] = []  # what went out, and the reader did not follow yet
        self._unread_bytes = 0  # of those that are long
        self._unread_alike = False  # the last of these says what the one before it says, but for its text
        self._waiting: deque[tuple[int, Frame, int, bool]] = deque()
        """Frames with how much must be judged first, what was said by then, and whether they say what was said before."""
        self._out = bytearray()
        self.released = 0

    def send(self, frame: Frame, said: int, last: bool = False, alike: bool = False) -> None:
        """Send a frame when that may be.

        Args:
            said: code points that were said by then. last: it ends a text, or is of a tool call.
            alike: it says what the one before it said, but for its text.
        """
        if self._follower is None:
            self.released = said
            self._pass(frame, alike)
        else:
            self._waiting.append((self._follower.due(last), frame, said, alike))

    def plain(self, raw: bytes) -> None:
        """Send bytes that say nothing."""
        self._out += raw

    def take(self) -> bytes:
        """What may go out now."""
        while self._waiting and self._follower is not None and self._waiting[0][0] <= self._follower.judged:
            _, frame, self.released, alike = self._waiting.popleft()
            self._pass(frame, alike)
        out = bytes(self._out)
        self._out.clear()
        return out

    def keep_step(self, reader: StreamReader, alike: Frame | None) -> Callable[[], None] | None:
        """Have the reader follow what went out, if it is far behind; gives what may be done elsewhere of that.

        Args:
            reader: of all that came, but for ``alike``, the last frame where that is like the one before it. Where all of that
                has gone out, uncut, both readers know the same.
        """
        if len(self._unread) < IN_STEP and self._unread_bytes <= IN_STEP * LONG:
            return None
        if self._waiting or not self._reader.textless:
            if self._unread_bytes:
                return self._follow
            self._follow()
            return None
        if alike is not None:
            reader.read(alike)
        self._reader.follow(reader)
        self._forget()
        return None

    def stop(self, message: str, reader: StreamReader) -> bytes:
        """What may go out now, and then the end of the stream as blocked; what waits stays back.

        ``reader``: of all that came.
        """
        out = self._ended()
        self._reader.hear_of(reader)
        return out + self._reader.stop(message)

    def fail(self, message: str) -> bytes:
        """As `stop`, where the upstream broke off."""
        return self._ended() + self._reader.fail(message)

    def _ended(self) -> bytes:
        out = self.take()
        self._waiting.clear()
        self._follow()
        return out

    def _pass(self, frame: Frame, alike: bool) -> None:
        long = len(frame.raw) > LONG
        self._unread_bytes += len(frame.raw) if long else 0
        if alike and self._unread_alike:
            self._unread[-1] = frame  # it tells the reader all that the one before it did
        elif alike or long or self._reader.textless:
            self._unread.append(frame)
        else:
            self._follow()
            self._reader.read(frame)
        self._unread_alike = alike
        self._out += frame.raw

    def _follow(self) -> None:
        for frame in self._unread:
            self._reader.read(frame)
        self._forget()

    def _forget(self) -> None:
        self._unread.clear()
        self._unread_alike, self._unread_bytes = False, 0
