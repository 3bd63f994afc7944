"""What a stream names things by: ids, roles, kinds, models. Each is said whole in every frame that has it, so none of it waits.

Some clients put together what stands in one place in several frames. So where something else comes there than at first, it is
read as going on with what was there before, too.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from functools import partial
from typing import Final

from detectors.stream import Released
from detectors.values import Path
from gateway.streams.channel_text import ChannelText
from gateway.streams.following import Channel
from gateway.streams.listening import LONG, SLICE, Listening
from gateway.streams.steps import Steps
from gateway.wires import beside
from gateway.wires.base import EventKind, Malformed, StreamEvent
from gateway.wires.collecting import MAX_PARTS
from gateway.wires.events import own_channel
from gateway.wires.frames import Frame

TAIL: Final = 256
"""Code points of what came before in one place that are known."""

MAX_KNOWN: Final = 1_024
"""Labels of one stream of which it is remembered what went out for them. A stream has a few, over and over."""

_LINE: Final[Path] = ("line",)

TURN: Final = 16
"""Events of one frame after which others may have their turn: looking at a label takes some 50 µs."""

PIECE: Final = 4_096
"""Code points of a label after which others may have their turn. A label has some ten, but nothing keeps a sender to that."""


class Labels:
    """Those of one stream."""

    __slots__ = ("_known", "_listening", "_opened", "_passes", "_places", "_restored")

    def __init__(
        self,
        opened: Callable[[StreamEvent], ChannelText],
        restored: Callable[[ChannelText, Released, Channel], str],
        passes: Callable[[str], bool],
        listening: Listening,
    ) -> None:
        """
        Args:
            opened: makes a text that begins with an event.
            restored: what goes out of what was released of it.
            passes: whether a label by itself is known to go out as it is; where not, a text is made of it.
            listening: hears what is found.
        """
        self._opened = opened
        self._restored = restored
        self._passes = passes
        self._listening = listening
        self._places: dict[Channel, tuple[str, str]] = {}  # what came there first, and all of it together
        self._known: dict[tuple[str, str], str] = {}

    def pass_on(
        self, events: list[StreamEvent], edits: dict[Path, str], under_way: Container[Channel]
    ) -> Steps[list[StreamEvent]]:
        """The events of a frame without labels that pass as they are; what goes out of labels is added to ``edits``.

        Args:
            under_way: the channels of texts that are.

        Raises:
            Malformed: there are too many places.
        """
        left: list[StreamEvent] = []
        for number, event in enumerate(events, 1):
            if not number % TURN:
                yield None
            label, open_text = event.kind is EventKind.LABEL, event.channel in under_way
            if label and open_text:  # it came in pieces, and this is the last one
                left += (event._replace(kind=EventKind.OTHER), StreamEvent(EventKind.STOP, event.channel))
            elif label or (event.path and not open_text and event.channel in self._places):
                said = yield from self._said(event)
                if said != event.text:
                    left.append(event._replace(kind=EventKind.LABEL))
                if said != event.text or len(event.path) > 1:  # a frame that is made says again what stands at its top
                    edits[event.path] = said
            else:
                left.append(event)
        return left

    def clean(self, frame: Frame) -> Steps[Frame]:
        """A frame of server-sent events without the lines beside its data (comments, ids) of which not all may go out."""
        gone, long = [], len(frame.raw) > LONG
        found = (yield partial(beside.lines, frame)) if long else beside.lines(frame)
        for number, line in enumerate(found, 1):
            if not number % TURN:
                yield None
            if line.end - line.start > beside.LONGEST or (yield from self._said(_as_label(line))) != line.text:
                gone.append(line)
        if not gone:
            return frame
        return (yield partial(beside.without, frame, gone)) if long else beside.without(frame, gone)

    def _said(self, event: StreamEvent) -> Steps[str]:
        before, text = self._before(event), event.text
        if (known := self._known.get((before, text))) is not None:
            return known
        if not before and self._passes(text):
            said = text
        else:
            made = self._opened(event)
            if before:
                made.stream.feed(before)
                made.stream.let_go()
            released = yield from _screened(made, text)
            made.stream.close()
            said = self._restored(made, released, event.channel)
        if said != text or " " in _told(event):  # else it says nothing to anybody
            heard = event._replace(channel=own_channel(event.path))
            if len(text) <= SLICE:
                self._listening.hear(heard, True)
            else:
                yield from self._listening.hear_long(heard, True)
        if len(text) <= SLICE:
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            self._known[before, text] = said
        return said

    def _before(self, event: StreamEvent) -> str:
        """What a label goes on with, for who puts together what stands in one place."""
        channel = event.channel
        if not channel:
            return ""
        if channel not in self._places:
            if len(self._places) >= MAX_PARTS:
                raise Malformed(event.path, event.text, f"at most {MAX_PARTS} names in one stream")
            spoken = "".join(self._listening.said.texts.get(channel, ()))[-TAIL:]  # as a text, before that
            first = event.text if len(event.text) <= SLICE else ""  # of a longer one no more is kept than of what follows it
            self._places[channel] = first, (spoken + event.text)[-TAIL:]
            return spoken
        first, together = self._places[channel]
        if event.text == first:
            return ""  # once more: some say it with every piece
        self._places[channel] = first, (together + event.text)[-TAIL:]
        return together


def _as_label(line: beside.Line) -> StreamEvent:
    return StreamEvent(EventKind.LABEL, (), line.text, _LINE)


def _told(event: StreamEvent) -> str:
    """What a label says, of a line beside the data without the field's name."""
    return event.text.partition(":")[2].strip() if event.path is _LINE else event.text


def _screened(text: ChannelText, whole: str) -> Steps[Released]:
    """What goes out of a text that is ``whole``."""
    said: list[str] = []
    released = Released("")
    for at in range(0, len(whole), PIECE):
        if at:
            yield None
        more = text.stream.feed(whole[at : at + PIECE])
        said.append(more.text)
        released = Released("", released.found + more.found, more.cut)
        if more.cut is not None:
            return released._replace(text="".join(said))
    rest = text.stream.finish()
    return rest._replace(text="".join([*said, rest.text]), found=released.found + rest.found)
