"""What a wire format is: the one interface behind which the providers' dialects differ.

A wire is pure: bytes and values in, values and bytes out; it knows no socket, no policy and no clock.
Requests and replies are listed as *segments* (texts that a detector reads) and *opaque* parts (that none
reads); nothing that may reach a model or a caller is left out: a field that a wire does not know is walked
and listed, string by string (`gateway.wires.collecting`).
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Container, Mapping, Sized
from enum import StrEnum
from typing import Any, Final, NamedTuple, Self

from detectors.values import Opaque, Path, Segment, show_path
from gateway.wires.frames import Frame, Splitter, SseSplitter

SSE: Final = b"text/event-stream; charset=utf-8"
JSON: Final = b"application/json"


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
    the provider keeps nothing, ``choices`` where nobody can tell how many replies are asked for."""

    model: str | None
    streaming: bool
    segments: list[Segment]
    opaque: list[Opaque]
    thread: Thread | None = None
    choices: int | None = None


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
    sse: bool = False  # the query asks for server-sent events where there are other forms of an answer
    id: str = ""  # of what the path names that the provider keeps
    choices: int | None = None  # how many replies the request asks for, once that is known
    said: Container[str] | None = None  # what the caller of a session said, where that is known


class EventKind(StrEnum):
    """What a stream event carries. ``tool`` is argument text in pieces, which are JSON, ``code`` what a tool is given that is
    none; ``echo`` is what the caller said himself and hears again; ``audio`` is sound, whose channel is that of its
    transcript, or which has a path, where it stands whole in the frame; ``label`` is what something is named by: an id, a role,
    a model, which some clients put together where a channel has several; ``unread`` is another part that no detector reads, and
    its text the reason; ``other`` is nothing, or text that is no prose: of a
    call that comes whole, of a document, of what the wire does not know."""

    TEXT = "text"
    REASONING = "reasoning"
    TOOL = "tool"
    CODE = "code"
    REFUSAL = "refusal"
    ECHO = "echo"
    AUDIO = "audio"
    LABEL = "label"
    UNREAD = "unread"
    STOP = "stop"
    ERROR = "error"
    OTHER = "other"


class StreamEvent(NamedTuple):
    """One thing that a stream frame says.

    ``channel`` names the text it continues (choice, block or item, and field), ``text`` is the new piece of
    it, and ``path`` where the piece stands in the frame's JSON. Only events that carry text have a path.
    ``repeats`` names the channel whose text, which came in pieces before, should be this once more; ``so_far``: a text that
    comes whole goes on where it does, and a later frame says all of it again. ``family``: clients show texts of one name one
    after the other as one text, whatever stands between them.
    """

    kind: EventKind
    channel: tuple[str | int, ...]
    text: str = ""
    path: Path = ()
    repeats: tuple[str | int, ...] | None = None
    so_far: bool = False
    family: str = ""


MAX_CHOICES: Final = 1_024
"""Choices, or blocks that are open at once, in one stream: a reader remembers each. A reply has a few."""


def check_choices(known: Sized, path: Path, asked: int | None = None) -> None:
    """Stop one who begins them for ever, or begins more than were ``asked`` for: programs that want one show the first of each
    frame, whatever its number.

    Raises:
        Malformed: there are more than `MAX_CHOICES`, or than those.
    """
    most = MAX_CHOICES if asked is None else min(asked, MAX_CHOICES)
    if len(known) > most:
        raise Malformed(path, "", f"at most {most} choices in one stream")


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

    begins: frozenset[str] = frozenset()
    """Fields of an event in which something begins, mostly without a text: a piece of that (an event whose path leads through
    one, and whose channel is no ``whole`` one) is joined with those that follow by some clients, and not shown by others."""

    joined: frozenset[str] = frozenset()
    """Families of texts of which one that is over may go on in the next one, which is known once a frame comes that says more
    than that something ends or begins."""

    said_once: frozenset[str] = frozenset()
    """Names of strings, below the top, that clients would put together where two frames of one text had them."""

    said_again: frozenset[str] = frozenset()
    """Names of texts without which nobody can tell what another one goes on with."""

    def final(self, channel: tuple[str | int, ...]) -> bool:
        """Whether texts of ``channel`` whose end was told go on no more. Some senders tell an end with every piece. Where it is
        one text's own that was told, some clients show what follows as another text."""
        return True

    def sequel(self, doc: dict[str, Any], path: Path, others: Mapping[Path, str], text: str) -> dict[str, Any]:
        """What a frame says that goes on with the text at ``path`` in ``doc``: no other text, and of what stands beside the way
        to it nothing but settings. ``others``: what went out of the texts of ``doc``, by their paths."""
        made: dict[str, Any] = self._alone(doc, (), path, others, text)
        return made

    def _alone(self, value: Any, at: Path, path: Path, others: Mapping[Path, str], text: str) -> Any:
        if at == path:
            return text
        step: Any = path[len(at)]
        rest = self._alone(value[step], (*at, step), path, others, text)
        if isinstance(value, list):
            return [rest]
        kept: dict[str, Any] = {
            key: [] if isinstance(one, list) else others.get((*at, key), one) if key in self.said_again else one
            for key, one in value.items()
            if not isinstance(one, dict)
            and (key in self.said_again or (*at, key) not in others)
            and not (at and key in self.said_once)
        }
        return {**kept, step: rest}

    def follow(self, other: Self) -> None:
        """Take over what another reader knows of the stream."""
        self.__dict__ = copy.deepcopy(other.__dict__)

    def hear_of(self, other: Self) -> None:  # noqa: B027 - some wires have no choices
        """Before `stop`: choices that another reader saw begin and this one did not are ended, too."""

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
