"""OpenAI realtime sessions: ``GET /v1/realtime``, a WebSocket whose messages are JSON events.

What the client sends is read here, event by event, as a request is; the names of the beta interface are known beside those of
the current one. What the server says is `gateway.wires.openai_realtime_events`'s.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from detectors.values import Origin
from gateway.wires import openai_common as common
from gateway.wires import openai_items
from gateway.wires.base import Malformed, Parsed, Reply, StreamReader, Target, Wire
from gateway.wires.blocks import SCHEMA, SETTING, TEXT, WALK, Table, hidden, inside, read_block, shape
from gateway.wires.collecting import UNKNOWN, Collector
from gateway.wires.frames import Splitter
from gateway.wires.openai_items import read_item
from gateway.wires.openai_realtime_events import MessageSplitter, RealtimeStream
from gateway.wires.openai_responses import read_prompt

UNKNOWN_EVENT: Final = "unknown event"
"""Why a client's event counts as not screened although its strings are: nobody here knows what it does."""

PARTS: Final[Table] = {
    **openai_items.PARTS,
    "input_audio": shape("detail", unread="audio", audio=SETTING, transcript=TEXT),
    "output_audio": shape("", unread="audio", audio=SETTING, transcript=TEXT),
    "audio": shape("", unread="audio", audio=SETTING, transcript=TEXT),
    "item_reference": shape("id", unread="upstream state"),
}
ITEMS: Final[Table] = {**openai_items.ITEMS, "item_reference": shape("id object", unread="upstream state")}

_TRANSCRIPTION: Final[Table] = {
    "": shape("model language languages delay", Origin.SYSTEM, "system", prompt=WALK, keywords=WALK)
}
_INPUT: Final[Table] = {"": shape("format noise_reduction turn_detection", transcription=inside(_TRANSCRIPTION, Origin.SYSTEM))}
_OUTPUT: Final[Table] = {"": shape("format voice speed")}
_AUDIO: Final[Table] = {"": shape("", input=inside(_INPUT), output=inside(_OUTPUT))}
_SETTINGS: Final[Table] = {
    "": shape(
        # What is not named here or read by hand is walked and listed.
        "type id object model expires_at output_modalities modalities max_output_tokens max_response_output_tokens include "
        "parallel_tool_calls voice speed temperature turn_detection input_audio_format output_audio_format truncation "
        "input_audio_noise_reduction reasoning conversation",
        audio=inside(_AUDIO),
        input_audio_transcription=inside(_TRANSCRIPTION, Origin.SYSTEM),
        tool_choice=SCHEMA,
        tracing=WALK,
        metadata=WALK,
        client_secret=hidden("credential"),
    )
}
"""The fields of a session and of a response."""

_BY_HAND: Final = frozenset({"instructions", "tools", "prompt", "input"})

_EVENT: Final = frozenset({"event_id", "previous_item_id", "item_id", "content_index", "audio_end_ms", "response_id"})
"""Settings of the client's events."""


class OpenAIRealtime(Wire):
    """The wire of realtime sessions. `read_request` reads one event of the client."""

    name = "openai.realtime"
    provider = "openai"

    def read_request(self, doc: dict[str, Any], target: Target) -> Parsed:
        out = Collector()
        kind = doc.get("type")
        if not isinstance(kind, str) or not kind:
            raise Malformed(("type",), kind, "the name of an event")
        known = _CLIENT.get(kind)
        if known is None:
            out.hidden(Origin.USER, 0, ("type",), UNKNOWN_EVENT)
            out.walk({key: value for key, value in doc.items() if key != "event_id"}, "user", Origin.USER, 0, ())
        else:
            field, read = known
            read(out, doc)
            out.unknown(doc, {"type", field} if field else {"type"}, Origin.USER, 0, settings=_EVENT)
        return out.parsed(streaming=True)

    def read_reply(self, doc: Any, target: Target) -> Parsed:
        """List what answers in place of a session: an error."""
        out = Collector(strict=False)
        out.walk(doc, UNKNOWN, Origin.ASSISTANT, 0, ())
        return out.parsed()

    def stream(self, target: Target, model: str | None) -> StreamReader:
        return RealtimeStream(target.said)

    def splitter(self, target: Target) -> Splitter:
        return MessageSplitter()

    def refuse(self, target: Target, parsed: Parsed, message: str, as_reply: bool, request_id: str) -> Reply:
        return common.refusal_error(message)

    def error(self, status: int, code: str, message: str, request_id: str = "") -> Reply:
        return common.error(status, code, message)


def _session(out: Collector, doc: dict[str, Any]) -> None:
    _read_settings(out, doc.get("session"), "session")


def _response(out: Collector, doc: dict[str, Any]) -> None:
    if doc.get("response") is not None:
        _read_settings(out, doc["response"], "response")


def _item(out: Collector, doc: dict[str, Any]) -> None:
    read_item(out, doc.get("item"), Origin.USER, 0, ("item",), PARTS, ITEMS)


def _append(out: Collector, doc: dict[str, Any]) -> None:
    if not isinstance(doc.get("audio"), str):
        raise Malformed(("audio",), doc.get("audio"), "audio in base64")
    out.hidden(Origin.USER, 0, ("audio",), "audio")


def _nothing(out: Collector, doc: dict[str, Any]) -> None:
    """The event has no text."""


_Reader = Callable[[Collector, dict[str, Any]], None]
_CLIENT: Final[dict[str, tuple[str, _Reader]]] = {  # what an event has beside its settings, and who reads it
    "session.update": ("session", _session),
    "transcription_session.update": ("session", _session),
    "conversation.item.create": ("item", _item),
    "response.create": ("response", _response),
    "input_audio_buffer.append": ("audio", _append),
    "input_audio_buffer.commit": ("", _nothing),
    "input_audio_buffer.clear": ("", _nothing),
    "output_audio_buffer.clear": ("", _nothing),
    "conversation.item.retrieve": ("", _nothing),
    "conversation.item.delete": ("", _nothing),
    "conversation.item.truncate": ("", _nothing),
    "response.cancel": ("", _nothing),
}


def _read_settings(out: Collector, value: Any, key: str) -> None:
    """List what a session or a response is set to."""
    if not isinstance(value, dict):
        raise Malformed((key,), value, "an object")
    instructions = value.get("instructions")
    if isinstance(instructions, str):
        out.text(instructions, "system", Origin.SYSTEM, -1, (key, "instructions"))
    elif instructions is not None:
        raise Malformed((key, "instructions"), instructions, "a string")
    common.read_tools(out, value.get("tools"), "tools", (key,))
    if value.get("prompt") is not None:
        read_prompt(out, value["prompt"], (key, "prompt"))
    items = value.get("input")
    if isinstance(items, list):
        for turn, item in enumerate(items):
            read_item(out, item, Origin.USER, turn, (key, "input", turn), PARTS, ITEMS)
    elif items is not None:
        raise Malformed((key, "input"), items, "a list of items")
    rest = {name: value[name] for name in value if name not in _BY_HAND}
    read_block(out, rest, _SETTINGS, "user", Origin.USER, -1, (key,))
