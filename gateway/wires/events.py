"""What a stream's frames say, as events, and how an event is written."""

from __future__ import annotations

from typing import Any, Final

from detectors.values import ChannelKind, Key, Origin, Path
from gateway.wires import strict
from gateway.wires.base import EventKind, Parsed, StreamEvent
from gateway.wires.collecting import SCHEMA_WORDS, strings, words
from gateway.wires.frames import BadFraming, Frame


def loose(value: Any, path: Path, kind: EventKind = EventKind.OTHER) -> list[StreamEvent]:
    """Events for every string in a part of a frame that is not text in pieces.

    Each has a channel of its own, named by its path, so that it is never read as the sequel of another. Keys
    are not told: in a frame they are the provider's.
    """
    return [
        StreamEvent(kind, own_channel(place), text, place)
        for text, place in strings(value, path, numbers=False)
        if text and text not in SCHEMA_WORDS and not (place and isinstance(place[-1], Key))
    ]


_COMMON: Final = words(
    "assistant chat.completion.chunk text_completion function default auto stop length tool_calls function_call content_filter"
)
"""Names that nearly every stream has, and are no part of anything else."""


def labels(value: Any, path: Path, channel: tuple[str | int, ...] = ()) -> list[StreamEvent]:
    """Events for what names something, or for every string in it where it is no string. ``channel`` is its place, where clients
    put together what stands there in several frames."""
    if isinstance(value, str):
        return [StreamEvent(EventKind.LABEL, channel, value, path)] if value and value not in _COMMON else []
    return [one._replace(kind=EventKind.LABEL, channel=()) for one in loose(value, path)]


_SPEAKERS: Final = frozenset({Origin.SYSTEM, Origin.USER, Origin.ASSISTANT})


def events_of(parsed: Parsed, path: Path = ()) -> list[StreamEvent]:
    """Events for what stands under ``path`` in a frame, comes whole, and was listed as a reply is."""
    events = [StreamEvent(EventKind.UNREAD, own_channel((*path, *part.path))[1:], part.reason) for part in parsed.opaque]
    for part in parsed.segments:
        place = (*path, *part.path)
        prose = part.origin in _SPEAKERS and part.channel is ChannelKind.PROSE
        events.append(StreamEvent(EventKind.TEXT if prose else EventKind.OTHER, own_channel(place), part.text, place))
    return events


def own_channel(path: Path) -> tuple[str | int, ...]:
    return ("whole", *(f"#{step.name}" if isinstance(step, Key) else str(step) for step in path))


def load_frame(frame: Frame) -> dict[str, Any] | None:
    """The object that a frame's data is; None for one without data, and for the end mark that some send on any wire.

    Raises:
        BadFraming: the data is anything else, or says two things at once: nobody can tell what it says, so it cannot be
            screened and must not pass.
    """
    data = frame.data.strip()
    if data in (b"", b"[DONE]"):
        return None
    try:
        chunk = strict.loads(data)
    except strict.BadJson as error:
        if error.code == "duplicate_key":
            raise BadFraming("an object in a frame's data repeats a key") from None
        chunk = None
    if not isinstance(chunk, dict):
        raise BadFraming("a frame's data is not a JSON object")
    return chunk


def one_line(data: bytes) -> bytes:
    """JSON in which no string has a character that more lenient readers of lines than the standard's end a line at."""
    if data.isascii():
        return data
    for char, escape in _LINE_ENDS:
        data = data.replace(char, escape)
    return data


_LINE_ENDS: Final = tuple((char.encode(), b"\\u%04x" % ord(char)) for char in "\x85\u2028\u2029")


def sse(data: bytes, event: bytes = b"") -> bytes:
    """One server-sent event; of data with line ends, each line becomes a line of its own."""
    return (b"event: " + event + b"\n" if event else b"") + b"data: " + data.replace(b"\n", b"\ndata: ") + b"\n\n"
