"""What a wire format is: the one interface behind which the providers' dialects differ.

A wire is pure: bytes and values in, values and bytes out; it knows no socket, no policy and no clock.
Requests and replies are listed as *segments* (texts that a detector reads) and *opaque* parts (that none
reads); nothing that may reach a model or a caller is left out: a field that a wire does not know is walked
and listed, string by string.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Set as AbstractSet
from enum import StrEnum
from typing import Any, Final, NamedTuple, Self

from detectors.values import INNER, TOOL_CALL, ChannelKind, Key, Opaque, Origin, Path, Segment, show_path
from gateway.wires import strict
from gateway.wires.frames import BadFraming, Frame, Splitter, SseSplitter

MAX_DEPTH: Final = 96
"""Nested values in a body. Deep JSON schemas of tools reach about 20; beyond this a stack is being
attacked."""

MAX_PARTS: Final = 50_000
"""Texts and opaque parts in one body: a context window full of one-word parts, at a microsecond each."""


LEAST_NUMBER: Final = 1_000_000
"""Numbers smaller than this are not listed: no card, account or national identifier is as short as six digits."""

_EXACT: Final = 2**53  # from here on a float no longer tells whole numbers apart


def words(*lines: str) -> frozenset[str]:
    """The words of some lines: how this package writes sets of names."""
    return frozenset(" ".join(lines).split())


SCHEMA_WORDS: Final = words(
    "type properties required description name items enum parameters function strict additionalProperties",
    "default title format anyOf oneOf allOf id input arguments content text role index object string integer",
    "number boolean array null custom input_schema json_schema schema functionDeclarations",
    "OBJECT STRING INTEGER NUMBER BOOLEAN ARRAY NULL function_declarations",
)
"""Words of JSON Schema and of the wires: alone, as a key or a value, they are no text of the caller's."""


UNKNOWN: Final = TOOL_CALL
"""The role of what a wire does not know in a reply: it might be a call, and is held to all that a call is held to."""


class Malformed(ValueError):  # noqa: N818 - it is the caller's mistake, named as such
    """The caller's body is not what the wire documents. The message names the field and what it takes."""

    def __init__(self, path: Path, got: object, wanted: str) -> None:
        self.path = path
        super().__init__(f"{show_path(path)}: got {json_type(got)}; wanted {wanted}")


class Thread(NamedTuple):
    """A conversation that the provider keeps: the ids by which a request goes on from it, or a later one from this reply.
    ``kept``: whether the reply to this request will be kept."""

    ids: tuple[str, ...]
    kept: bool = True


class Parsed(NamedTuple):
    """A request or reply as the detectors see it. Replies have no ``model`` and are not ``streaming``; ``thread`` is None where
    the provider keeps nothing."""

    model: str | None
    streaming: bool
    segments: list[Segment]
    opaque: list[Opaque]
    thread: Thread | None = None


class Reply(NamedTuple):
    """A whole reply made by the gateway itself, in the caller's wire format."""

    status: int
    content_type: bytes
    body: bytes


class Target(NamedTuple):
    """What a request's path names: the wire, its operation, and the model if the path holds it."""

    wire: Wire
    operation: str
    model: str | None = None
    sse: bool = False  # the query asks for server-sent events where the wire has two stream forms (Gemini)


class EventKind(StrEnum):
    """What a stream event carries. ``tool`` is argument text in pieces; ``echo`` is what the caller said himself and hears
    again; ``audio`` is sound, whose channel is that of its transcript, or which has a path, where it stands whole in the frame;
    ``other`` is nothing, or text that is no prose: of a call that comes whole, of a document, of what the wire does not
    know."""

    TEXT = "text"
    REASONING = "reasoning"
    TOOL = "tool"
    REFUSAL = "refusal"
    ECHO = "echo"
    AUDIO = "audio"
    STOP = "stop"
    ERROR = "error"
    OTHER = "other"


class StreamEvent(NamedTuple):
    """One thing that a stream frame says.

    ``channel`` names the text it continues (choice, block or item, and field), ``text`` is the new piece of
    it, and ``path`` where the piece stands in the frame's JSON. Only events that carry text have a path.
    ``repeats`` names the channel whose text, which came in pieces before, should be this once more.
    """

    kind: EventKind
    channel: tuple[str | int, ...]
    text: str = ""
    path: Path = ()
    repeats: tuple[str | int, ...] | None = None


class StreamReader(ABC):
    """Follows one reply stream of a wire: frames in, events out; and knows how to stop it as the wire does.

    What it ends is the stream of the frames that it read. A relay that withholds or rewrites frames keeps a
    second reader, of the frames that it sent, and asks that one to stop.
    """

    thread: Thread | None = None
    """By what a later request can go on from this reply, once the stream has told."""

    textless = True
    """Whether nothing of a frame's texts is kept: then two readers of frames that differ in their texts alone are alike."""

    varies: tuple[Path, ...] = ()
    """Paths of strings and numbers that differ from frame to frame and are none of a model's words: they are read to know how
    to end the stream, for which those of the last frame count, or not at all."""

    def follow(self, other: Self) -> None:
        """Take over what another reader knows of the stream."""
        self.__dict__ = copy.deepcopy(other.__dict__)

    @abstractmethod
    def read(self, frame: Frame) -> list[StreamEvent]:
        """Tell what ``frame`` says. A frame without text is one event of kind ``other``.

        Raises:
            BadFraming: its data is no JSON object.
            Malformed: a bound is passed (`MAX_DEPTH`, `MAX_PARTS`): the upstream's fault.
        """

    @abstractmethod
    def stop(self, message: str) -> bytes:
        """The bytes that end the stream here as blocked content, given what was read so far.

        They follow the last whole frame that was sent, close what is open, carry the wire's own finish reason
        (``content_filter``, ``refusal``, ``SAFETY``) and the wire's own end mark. A stream that has ended
        gets none.
        """

    @abstractmethod
    def fail(self, message: str) -> bytes:
        """The bytes that end the stream here as a fault that is not the content's (the upstream broke
        off)."""


class Wire(ABC):
    """One provider operation's format."""

    name: str
    """As in metrics and records: ``openai.chat``."""

    provider: str
    """The key of the configuration's ``upstreams`` that serves it."""

    @abstractmethod
    def read_request(self, doc: dict[str, Any], target: Target) -> Parsed:
        """List every part of a request.

        Raises:
            Malformed: a field that holds text has a type that the wire does not document.
        """

    @abstractmethod
    def read_reply(self, doc: Any, target: Target) -> Parsed:
        """List every part of a whole reply. What it does not know is walked.

        Raises:
            Malformed: a bound is passed (`MAX_DEPTH`, `MAX_PARTS`); nothing else in a reply raises it.
        """

    @abstractmethod
    def stream(self, target: Target, model: str | None) -> StreamReader:
        """A reader for one stream that answers a request to ``target`` for ``model``."""

    def splitter(self, target: Target) -> Splitter:
        """What cuts the bytes of such a stream into frames."""
        return SseSplitter()

    @abstractmethod
    def refuse(self, target: Target, parsed: Parsed, message: str, as_reply: bool, request_id: str) -> Reply:
        """The refusal of a request: an error (``as_reply`` false) or a native reply that was filtered,
        streamed if asked."""

    @abstractmethod
    def error(self, status: int, code: str, message: str, request_id: str = "") -> Reply:
        """An error of the gateway's own in the wire's shape.

        ``code`` is one of ours, such as ``invalid_json``; it and ``request_id`` are told where the wire has a
        place for them.
        """


class Collector:
    """Gathers the parts of one body while a wire walks it, and enforces the bounds.

    A strict one is for requests: a wrong type where the wire documents text is the caller's mistake.
    Otherwise (replies) what stands there is listed as it is.
    """

    __slots__ = ("opaque", "segments", "strict")

    def __init__(self, strict: bool = True) -> None:
        self.segments: list[Segment] = []
        self.opaque: list[Opaque] = []
        self.strict = strict

    def text(self, value: str, role: str, origin: Origin, turn: int, path: Path, glued: bool = False) -> None:
        """List one text; the empty text says nothing and is left out."""
        if value:
            self.segments.append(Segment(value, role, origin, turn, path, glued))
            if len(self.segments) > MAX_PARTS:
                raise Malformed(path, value, f"at most {MAX_PARTS} texts in one body")

    def hidden(self, origin: Origin, turn: int, path: Path, reason: str) -> None:
        """List one part that no detector reads."""
        self.opaque.append(Opaque(origin, turn, path, reason))
        if len(self.opaque) > MAX_PARTS:
            raise Malformed(path, "", f"at most {MAX_PARTS} parts in one body")

    def walk(self, value: Any, role: str, origin: Origin, turn: int, path: Path, nested: bool = False) -> None:
        """List every string in ``value``, keys and long numbers too, but for `SCHEMA_WORDS`.

        A key of plain letters is listed once: rows repeat their column names. ``nested``: strings that are
        JSON are entered.
        """
        seen: set[str] = set()
        for text, place in strings(value, path):
            if text in SCHEMA_WORDS:
                continue
            if place and isinstance(place[-1], Key) and text.replace("_", "").isalpha():
                if text in seen:
                    continue
                seen.add(text)
            if nested:
                self.json_text(text, role, origin, turn, place)
            else:
                self.text(text, role, origin, turn, place)

    def json_text(self, value: str, role: str, origin: Origin, turn: int, path: Path, glued: bool = False) -> None:
        """List a string that may itself be JSON (tool-call arguments, tool results): its strings, or else
        itself."""
        if value[:64].lstrip()[:1] in ("{", "[") and not (path and isinstance(path[-1], Key)):
            try:
                inner = strict.loads(value)
            except strict.BadJson:
                self.text(value, role, origin, turn, path, glued)
            else:
                self.walk(inner, role, origin, turn, (*path, INNER), nested=True)
        else:
            self.text(value, role, origin, turn, path, glued)

    def unknown(self, doc: dict[str, Any], known: AbstractSet[str], origin: Origin, turn: int = -1, path: Path = ()) -> None:
        """List the fields of an object that its wire does not know, names and all."""
        for key in sorted(doc.keys() - known):
            self.walk({key: doc[key]}, unknown_role(key, origin), origin, turn, path)

    def wrong(self, value: Any, wanted: str, role: str, origin: Origin, turn: int, path: Path) -> None:
        """Meet a value of a type that the wire does not document here.

        Raises:
            Malformed: the collector is strict.
        """
        if self.strict:
            raise Malformed(path, value, wanted)
        self.walk(value, unknown_role(role, origin), origin, turn, path)

    def parsed(self, model: str | None = None, streaming: bool = False) -> Parsed:
        return Parsed(model, streaming, self.segments, self.opaque)


def unknown_role(role: str, origin: Origin) -> str:
    """The role of a text that its wire does not know, where ``origin`` speaks."""
    return UNKNOWN if origin is Origin.ASSISTANT else role


def strings(value: Any, path: Path, numbers: bool = True) -> list[tuple[str, Path]]:
    """Every string in a JSON value, in document order, with its path; keys have a last step `Key`.

    ``numbers``: those from `LEAST_NUMBER` on count as the strings that they are written as.

    Raises:
        Malformed: the value is nested deeper than `MAX_DEPTH`.
    """
    found: list[tuple[str, Path]] = []
    _gather(value, path, numbers, found)
    return found


def _gather(value: Any, path: Path, numbers: bool, found: list[tuple[str, Path]]) -> None:
    if isinstance(value, str):
        found.append((value, path))
    elif isinstance(value, dict):
        check_depth(value, path)
        for key, item in value.items():
            found.append((key, (*path, Key(key))))
            _gather(item, (*path, key), numbers, found)
    elif isinstance(value, list):
        check_depth(value, path)
        for index, item in enumerate(value):
            _gather(item, (*path, index), numbers, found)
    elif numbers and isinstance(value, int | float) and abs(value) >= LEAST_NUMBER:
        found.append((_digits(value), path))


def _digits(number: float) -> str:
    """A number as it is mostly written: a whole one without a point, though a body may have one."""
    exact = isinstance(number, float) and number.is_integer() and abs(number) < _EXACT
    return str(int(number)) if exact else str(number)


def check_depth(value: Any, path: Path) -> None:
    """Refuse what only a stack could be attacked with.

    Raises:
        Malformed: ``path`` is deeper than `MAX_DEPTH`.
    """
    if len(path) > MAX_DEPTH:
        raise Malformed(path[:8], value, f"at most {MAX_DEPTH} nested values")


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


_SPEAKERS: Final = frozenset({Origin.SYSTEM, Origin.USER, Origin.ASSISTANT})


def events_of(parsed: Parsed, path: Path = ()) -> list[StreamEvent]:
    """Events for what stands under ``path`` in a frame, comes whole, and was listed as a reply is."""
    events = []
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


def want_model(doc: dict[str, Any]) -> str:
    """The request's ``model``.

    Raises:
        Malformed: it is missing, empty or not a string.
    """
    model = doc.get("model")
    if not isinstance(model, str) or not model:
        raise Malformed(("model",), model, "a model's name")
    return model


def want_flag(doc: dict[str, Any], key: str) -> bool:
    """A boolean field that may be missing or null.

    Raises:
        Malformed: it is something else; a gateway that guessed would screen a stream as a whole reply.
    """
    value = doc.get(key)
    if value is None or isinstance(value, bool):
        return bool(value)
    raise Malformed((key,), value, "true or false")


def json_type(value: object) -> str:
    """The JSON name of a value's type, for messages that must not show the value."""
    match value:
        case None:
            return "nothing"
        case bool():
            return "a boolean"
        case str():
            return "a string" if value else "an empty string"
        case int() | float():
            return "a number"
        case list():
            return "a list"
        case dict():
            return "an object"
    return type(value).__name__


def sse(data: bytes, event: bytes = b"") -> bytes:
    """One server-sent event; of data with line ends, each line becomes a line of its own."""
    return (b"event: " + event + b"\n" if event else b"") + b"data: " + data.replace(b"\n", b"\ndata: ") + b"\n\n"


SSE: Final = b"text/event-stream; charset=utf-8"
JSON: Final = b"application/json"
