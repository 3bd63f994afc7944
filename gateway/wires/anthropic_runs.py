"""Text blocks of a streamed message that follow each other. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.wires.base import EventKind, Malformed, StreamEvent
from gateway.wires.collecting import MAX_PARTS


@dataclass
class Runs:
    """Tells which text a block goes on with.

    Clients show text blocks that follow each other as one text (an answer with citations has dozens of them). So they have one
    channel, the first one's, and its end is told when something else begins: the end of a block in between is none.
    """

    _run: tuple[int, int] | None = None  # the first and the last block of the text that may go on
    _paused: bool = False  # whether the last one is over
    _said_more: bool = False  # whether it said something all the same
    _first: dict[int, int] = field(default_factory=dict)  # of each block that went on with others, the first of those

    def final(self, channel: tuple[str | int, ...]) -> bool:
        """Whether the end of a channel is one."""
        return channel[1:] != ("text",)

    def goes_on(self, index: int) -> bool:
        """Whether a block goes on with another one."""
        return index in self._first

    def begin(self, index: int, is_text: bool, others: bool) -> list[StreamEvent]:
        """A block begins; ``others``: some are open. Gives the end of a text that does not go on with it.

        Raises:
            Malformed: there are too many, or the last one said something after its end: where the new text begins is unclear.
        """
        known = index in self._first or (self._run is not None and index in self._run)
        new = is_text and not others and not known
        if new and self._run is not None and self._paused:
            if len(self._first) >= MAX_PARTS:
                raise Malformed(("index",), "", f"at most {MAX_PARTS} text blocks in one message")
            if self._said_more:
                raise Malformed(("index",), "", "no text block after one that went on after its end")
            self._first[index] = self._run[0]
            self._run, self._paused = (self._run[0], index), False
            return []
        ended = self.over()
        if new and self._run is None:
            self._run = index, index
        return ended

    def end(self, index: int, others: bool) -> list[StreamEvent]:
        """A block ends, while ``others`` are open or not."""
        own = StreamEvent(EventKind.STOP, (index,))
        if self._run is None or self._paused or self._run[1] != index:
            return [own]
        first, self._paused = self._run[0], True
        ended = self.over() if others else [StreamEvent(EventKind.STOP, (first, "text"))]
        return ended if index == first else [own, *ended]

    def over(self) -> list[StreamEvent]:
        """Nothing goes on with the blocks that have ended."""
        if self._run is None or not self._paused:
            return []
        (first, _), self._run, self._paused, self._said_more = self._run, None, False, False
        return [StreamEvent(EventKind.STOP, (first,))]

    def placed(self, events: list[StreamEvent], index: int) -> list[StreamEvent]:
        """A block's events, those of its text in the channel of what it goes on with.

        Raises:
            Malformed: it is a block after which another one has gone on: what a client would make of both nobody can say.
        """
        first = self._first.get(index, index)
        says = any(event.channel == (index, "text") and event.text for event in events)
        if says and self._run is not None and first == self._run[0]:
            if index == self._run[1]:
                self._said_more = self._paused
            else:
                raise Malformed(("index",), "", "no more of a block after which another one has gone on")
        return [
            event._replace(channel=(first, "text"), family="text") if event.channel == (index, "text")
            else event._replace(family="thinking") if event.channel == (index, "thinking") else event
            for event in events
        ]
