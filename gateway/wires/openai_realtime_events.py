"""What the server of an OpenAI realtime session says.

It is a stream of frames like any other, in which one frame is one event; the names of the beta interface are known beside those
of the current one. Between the frames stands `SEPARATOR`, which no JSON text can contain.
"""

from __future__ import annotations

import re
from collections.abc import Container
from collections.abc import Set as AbstractSet
from typing import Any, Final

import orjson

from detectors.values import Key, Path
from gateway.wires.base import EventKind, Malformed, StreamEvent, StreamReader
from gateway.wires.collecting import SCHEMA_WORDS, is_word, strings, words
from gateway.wires.events import load_frame, own_channel
from gateway.wires.frames import MAX_FRAME, BadFraming, Frame, FrameTooLong, Splitter

SEPARATOR: Final = b"\x1e"
"""Ends a message of the server in a relay's bytes: a control character, which JSON does not allow anywhere."""

MAX_ITEMS: Final = 1_024
"""Items of responses that are under way at once. A response has a few; a server that begins them for ever is stopped."""

MAX_ID: Final = 512
"""Characters of an id: what the provider takes for an event's. Others are its own, of some thirty."""

_DELTAS: Final = {
    "response.output_text.delta": (EventKind.TEXT, "text"),
    "response.text.delta": (EventKind.TEXT, "text"),
    "response.output_audio_transcript.delta": (EventKind.TEXT, "transcript"),
    "response.audio_transcript.delta": (EventKind.TEXT, "transcript"),
    "response.function_call_arguments.delta": (EventKind.TOOL, "arguments"),
    "response.mcp_call_arguments.delta": (EventKind.TOOL, "arguments"),
}
"""Pieces of text, by the event that brings them, and the field that repeats them."""

_DONE: Final = {kind.removesuffix("delta") + "done": found for kind, found in _DELTAS.items()}
_AUDIO_EVENTS: Final = frozenset(
    f"response.{name}.{end}" for name in ("output_audio", "audio") for end in ("delta", "done")
)
HEARD: Final = "conversation.item.input_audio_transcription."
"""How the names of events begin that tell what was understood of the user's audio."""

_ECHOED: Final = frozenset(
    {"session.created", "session.updated", "transcription_session.created", "transcription_session.updated"}
)
_QUIET: Final = words(
    "type event_id response_id item_id previous_item_id call_id conversation_id id object role status obfuscation",
    "approval_request_id format voice model reason effort eagerness truncation",
)
"""Fields that carry no text where a `_NAME` stands in them, wherever they stand in an event: names, ids, kinds."""

_NAME: Final = re.compile(r"[\w.:/+=-]{1,128}")
_SOUND: Final = re.compile(r"[A-Za-z0-9+/_-]+=*")
_IMAGE: Final = re.compile(r"data:image/[\w.+-]+;base64,[A-Za-z0-9+/_-]*=*")
_WORDS: Final = SCHEMA_WORDS | {"audio", "inf", "auto"}

_OURS: Final = frozenset({"user", "system"})
_SET: Final = words("instructions metadata tools tool_choice prompt input tracing audio input_audio_transcription")
"""Fields of a session or a response that the caller set, and hears again."""

_UNDERSTOOD: Final = words("transcript delta text logprobs")
"""Fields of an event that tells what was understood of his audio."""

_FIELDS: Final = {"text": EventKind.TEXT, "transcript": EventKind.TEXT, "arguments": EventKind.TOOL}


def error_event(
    number: str, code: str, message: str, *, param: str | None = None, event_id: Any = None, server: bool = False
) -> dict[str, Any]:
    """The server's event that something is wrong; the session goes on.

    Args:
        number: tells the gateway's own events of a session apart.
        param: the field concerned. event_id: of the client's event that is answered, if it had one.
        server: the fault is not the client's.
    """
    kind = "server_error" if server else "invalid_request_error"
    answered = event_id if isinstance(event_id, str) else None
    error = {"type": kind, "code": code, "message": message, "param": param, "event_id": answered}
    return {"type": "error", "event_id": f"event_portcullis_{number}", "error": error}


class RealtimeStream(StreamReader):
    """Follows the events of a session. `responses` are those that are under way: id to the ids of their items."""

    varies = (("event_id",), ("obfuscation",))

    def __init__(self, said: Container[str] | None = None) -> None:
        """``said``: what the caller said; where that is not known, he said all that is told as his."""
        self._said = said
        self.responses: dict[str, list[str]] = {}
        self._parts: set[tuple[str | int, ...]] = set()  # that are under way
        self._new: set[tuple[str | int, ...]] = set()  # texts under way of events that nobody knows
        self._number = 0

    def read(self, frame: Frame) -> list[StreamEvent]:
        event = load_frame(frame)
        if event is None:
            raise BadFraming("a message is not a JSON object")
        kind = event.get("type")
        kind = kind if isinstance(kind, str) else ""
        events = self._read(event, kind)
        if self._said is None or kind.startswith(HEARD):
            return events
        return [self._unsaid(one) if one.kind is EventKind.ECHO and one.text not in self._said else one for one in events]

    @staticmethod
    def _unsaid(echo: StreamEvent) -> StreamEvent:
        """What is told as the caller's and is none of it: instructions that the session began with, or whatever a server makes
        up."""
        return echo._replace(kind=EventKind.LABEL, channel=()) if is_word(echo.text) else echo._replace(kind=EventKind.TEXT)

    def _read(self, event: dict[str, Any], kind: str) -> list[StreamEvent]:
        if kind in _ECHOED:
            session = event.pop("session", None)
            told = _set(session, kind, ("session",)) if isinstance(session, dict) else _loose(session, kind, ("session",))
            return told + _loose(event, kind, ()) or _NOTHING
        if kind.startswith(HEARD):
            return _some_echo(event, _UNDERSTOOD, kind, ()) or _NOTHING
        item = _id(event, "item_id")
        place = event.get("content_index")
        part: tuple[str | int, ...] = ("item", item, place) if isinstance(place, int) else ("item", item)
        events: list[StreamEvent] = []
        read = frozenset[str]()
        if kind in _AUDIO_EVENTS:
            events.append(StreamEvent(EventKind.AUDIO, (*part, "transcript")))
            if isinstance(sound := event.get("delta"), str) and _SOUND.fullmatch(sound):
                read = frozenset({"delta"})
        elif kind in _DELTAS and isinstance(delta := event.get("delta"), str):
            what, field = _DELTAS[kind]
            self._parts.add(part)
            if len(self._parts) > MAX_ITEMS:
                raise Malformed(("content_index",), place, f"at most {MAX_ITEMS} parts under way")
            if delta:
                # a program that prints what comes shows the texts of a response's items as one
                family = "" if what is EventKind.TOOL else f"{field} of {_name(event.get('response_id'))}"
                events.append(StreamEvent(what, (*part, field), delta, ("delta",), family=family))
            read = frozenset({"delta"})
        elif isinstance(delta := event.get("delta"), str) and delta:  # pieces of something new
            new = (*part, "new", kind.removesuffix(".delta"))
            self._new.add(new)
            if len(self._new) > MAX_ITEMS:
                raise Malformed(("type",), kind, f"at most {MAX_ITEMS} texts of unknown events under way")
            events.append(StreamEvent(EventKind.OTHER, new, delta, ("delta",)))
            read = frozenset({"delta"})
        events += _texts(event, kind, part, read)
        if kind.endswith(".done") and (over := (*part, "new", kind.removesuffix(".done"))) in self._new:
            self._new.discard(over)
            events.append(StreamEvent(EventKind.STOP, over))
        return events + self._follow(event, kind, item, part) or _NOTHING

    def stop(self, message: str) -> bytes:
        if not self.responses:
            return self._write(error_event(self._next(), "content_filter", message))
        error = {"type": "content_filter", "code": "content_filter", "message": message}
        details = {"type": "incomplete", "reason": "content_filter", "error": error}
        return self._end("incomplete", details)

    def fail(self, message: str) -> bytes:
        error = {"type": "server_error", "code": "upstream_error"}
        told = self._write(error_event(self._next(), "upstream_error", message, server=True))
        return told + self._end("failed", {"type": "failed", "error": error})

    def _follow(self, event: dict[str, Any], kind: str, item: str, part: tuple[str | int, ...]) -> list[StreamEvent]:
        """Note what begins and tell what ends."""
        if not kind.startswith("response."):
            return []
        response = event.get("response")
        whole = response if isinstance(response, dict) else {}
        id = _id(event, "response_id") if "response_id" in event else _id(whole)
        if kind == "response.done":
            items = self.responses.pop(id, [])
            self._parts, self._new = ({one for one in some if one[1] not in items} for some in (self._parts, self._new))
            over = [("response", id), *(("item", name) for name in items)]
            return [StreamEvent(EventKind.STOP, one) for one in over]
        items = self.responses.setdefault(id, [])
        made = event.get("item")
        item = item or (_id(made) if isinstance(made, dict) else "")
        if item and item not in items:
            items.append(item)
        if len(self.responses) + sum(map(len, self.responses.values())) > MAX_ITEMS:
            raise Malformed(("type",), "", f"at most {MAX_ITEMS} items under way")
        if kind in _DONE:
            return [StreamEvent(EventKind.STOP, (*part, _DONE[kind][1]))]
        if kind == "response.content_part.done":
            self._parts.discard(part)
            return [StreamEvent(EventKind.STOP, part)]
        if kind == "response.output_item.done":
            self._parts = {one for one in self._parts if one[1] != item}
            return [StreamEvent(EventKind.STOP, ("item", item))]
        return []

    def _end(self, status: str, details: dict[str, Any]) -> bytes:
        out = b""
        for id in list(self.responses):
            response: dict[str, Any] = {
                "object": "realtime.response", "id": id, "status": status, "status_details": details, "output": [],
                "conversation_id": None, "output_modalities": [], "max_output_tokens": "inf", "metadata": None, "usage": None,
            }  # fmt: skip
            made = {"type": "response.done", "event_id": f"event_portcullis_{self._next()}", "response": response}
            out += self._write(made)
        self.responses.clear()
        return out

    def _next(self) -> str:
        self._number += 1
        return f"s{self._number}"

    def _write(self, event: dict[str, Any]) -> bytes:
        return orjson.dumps(event) + SEPARATOR


_NOTHING: Final = [StreamEvent(EventKind.OTHER, ())]


def _name(value: object) -> str:
    return value if isinstance(value, str) else ""


def _id(holder: dict[str, Any], field: str = "id") -> str:
    """An id, which is remembered for as long as what it names is under way.

    Raises:
        Malformed: it is longer than `MAX_ID`.
    """
    id = _name(holder.get(field))
    if len(id) > MAX_ID:
        raise Malformed((field,), id, f"a string of at most {MAX_ID} characters")
    return id


def _texts(event: dict[str, Any], kind: str, part: tuple[str | int, ...], read: frozenset[str]) -> list[StreamEvent]:
    """Events for the texts that an event brings whole: new ones, and those that came in pieces before."""
    found: list[StreamEvent] = []
    for key, value in event.items():
        if key in read:
            continue
        if key in _FIELDS and isinstance(value, str):
            found += _whole(value, kind, (key,), (*part, key))
        elif key == "part" and isinstance(value, dict):
            found += _part(value, kind, (key,), part)
        elif key == "item" and isinstance(value, dict):
            found += _item_texts(value, kind, (key,))
        elif key == "response" and isinstance(value, dict):
            output = value.get("output")
            items = output if isinstance(output, list) else []
            for number, item in enumerate(items):
                here = (key, "output", number)
                found += _item_texts(item, kind, here) if isinstance(item, dict) else _loose(item, kind, here)
            found += _set({name: inner for name, inner in value.items() if inner is not items}, kind, (key,))
        else:
            found += _loose(value, kind, (key,))
    return found


def _item_texts(item: dict[str, Any], kind: str, path: Path) -> list[StreamEvent]:
    """The texts of an item: what the caller said comes back as an echo, what the model said is looked at."""
    id = _name(item.get("id"))
    if _name(item.get("role")) in _OURS or item.get("type") == "function_call_output":
        return _some_echo(item, {"content", "output"}, kind, path)
    found: list[StreamEvent] = []
    for key, value in item.items():
        here = (*path, key)
        if key == "content" and isinstance(value, list):
            for number, part in enumerate(value):
                inside, channel = (*here, number), ("item", id, number)
                found += _part(part, kind, inside, channel) if isinstance(part, dict) else _loose(part, kind, inside)
        elif key == "arguments" and isinstance(value, str):
            found += _whole(value, kind, here, ("item", id, key))
        else:
            found += _loose(value, kind, here)
    return found


def _part(part: dict[str, Any], kind: str, path: Path, channel: tuple[str | int, ...]) -> list[StreamEvent]:
    found: list[StreamEvent] = []
    for key, value in part.items():
        here = (*path, key)
        if key in _FIELDS and isinstance(value, str):
            found += _whole(value, kind, here, (*channel, key))
        else:
            found += _loose(value, kind, here)
    return found


def _whole(text: str, kind: str, path: Path, repeats: tuple[str | int, ...]) -> list[StreamEvent]:
    """A text that comes whole: as its pieces were read, if it is theirs."""
    if not text:
        return []
    return [StreamEvent(_FIELDS[str(path[-1])], ("whole", kind, *repeats), text, path, repeats)]


def _loose(value: Any, kind: str, path: Path) -> list[StreamEvent]:
    """Events for what is not known, string by string."""
    return _strings(value, EventKind.OTHER, path, kind)


def _echo(value: Any, path: Path) -> list[StreamEvent]:
    """Events for what the caller said himself."""
    return _strings(value, EventKind.ECHO, path)


def _some_echo(value: dict[str, Any], said: AbstractSet[str], kind: str, path: Path) -> list[StreamEvent]:
    """Events for an object of whose fields the caller ``said`` some."""
    found: list[StreamEvent] = []
    for key, inner in value.items():
        found += _echo(inner, (*path, key)) if key in said else _loose(inner, kind, (*path, key))
    return found


def _set(settings: dict[str, Any], kind: str, path: Path) -> list[StreamEvent]:
    return _some_echo(settings, _SET, kind, path)


def _strings(value: Any, what: EventKind, path: Path, *kind: str) -> list[StreamEvent]:
    found: list[StreamEvent] = []
    for text, place in strings(value, path, numbers=False):
        name = place[-1]
        if not text or text in _WORDS or isinstance(name, Key) or (name in _QUIET and _NAME.fullmatch(text)):
            continue
        if name == "audio" and _SOUND.fullmatch(text):
            found.append(StreamEvent(EventKind.AUDIO, own_channel(place), text, place))
        elif name != "image_url" or not _IMAGE.fullmatch(text):
            found.append(StreamEvent(what, (*own_channel(place), *kind), text, place))
    return found


class MessageSplitter(Splitter):
    """Cuts bytes in which `SEPARATOR` ends each message."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        super().__init__()
        self._buffer = bytearray()

    @property
    def begun(self) -> int:
        return len(self._buffer)

    def feed(self, chunk: bytes) -> list[Frame]:
        self._buffer += chunk
        whole: list[bytes] = []
        if SEPARATOR in chunk:
            *whole, rest = bytes(self._buffer).split(SEPARATOR)
            self._buffer = bytearray(rest)
        if len(self._buffer) > MAX_FRAME:
            raise FrameTooLong
        return [Frame(data + SEPARATOR, b"", data) for data in whole]

    def end(self) -> list[Frame]:
        rest = bytes(self._buffer)
        self._buffer.clear()
        return [Frame(rest, b"", rest)] if rest else []
