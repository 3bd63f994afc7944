"""Anthropic messages: ``POST /v1/messages``, ``POST /v1/messages/count_tokens`` and ``GET /v1/models``.

What its content blocks are stands in `anthropic_blocks`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from detectors.values import Origin, Path
from gateway.wires.anthropic_blocks import BLOCKS, SERVERS, TOOLS
from gateway.wires.anthropic_runs import Runs
from gateway.wires.base import (
    JSON,
    SSE,
    EventKind,
    Malformed,
    Parsed,
    Reply,
    StreamEvent,
    StreamReader,
    Target,
    Thread,
    Wire,
    check_choices,
)
from gateway.wires.blocks import Table, read_catalogue, read_parts, shape
from gateway.wires.collecting import UNKNOWN, Collector, want_flag, want_model, words
from gateway.wires.events import events_of, load_frame, loose, sse
from gateway.wires.frames import Frame
from gateway.wires.numbering import Begun, number_of

# Settings of the call that hold no text for the model. Every field not named here or read below is walked and listed.
_SETTINGS: Final = words(
    "model stream max_tokens temperature top_p top_k service_tier cache_control thinking speed",
    "inference_geo betas anthropic_version anthropic_beta user_profile_id workspace_id fallback_credit_token",
    "billing_policy diagnostics",
)
_READ: Final = words("messages system tools tool_choice mcp_servers output_config output_format container thread")
_ORIGINS: Final = {"user": Origin.USER, "assistant": Origin.ASSISTANT, "system": Origin.SYSTEM}
_REPLY: Final = words(
    "id type role model content stop_reason stop_sequence usage container context_management input_tokens diagnostics",
    "request_id",
)
_TYPES: Final = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}


class AnthropicMessages(Wire):
    """The wire of messages, and of counting their tokens."""

    name = "anthropic.messages"
    provider = "anthropic"

    def read_request(self, doc: dict[str, Any], target: Target) -> Parsed:
        out = Collector()
        system = doc.get("system")
        if isinstance(system, dict):
            raise Malformed(("system",), system, "a string or a list of text blocks")
        read_parts(out, system, BLOCKS, "system", Origin.SYSTEM, -1, ("system",))
        messages = doc.get("messages")
        if not isinstance(messages, list) or not messages:
            raise Malformed(("messages",), messages, "a list of at least one message")
        for turn, message in enumerate(messages):
            _read_message(out, message, turn, ("messages", turn))
        _read_rest(out, doc)
        return out.parsed(want_model(doc), want_flag(doc, "stream"))._replace(thread=_going_on(doc.get("thread")))

    def read_reply(self, doc: Any, target: Target) -> Parsed:
        out = Collector(strict=False)
        if isinstance(doc, dict) and (isinstance(doc.get("content"), list) or "input_tokens" in doc):
            read_parts(out, doc.get("content"), BLOCKS, "assistant", Origin.ASSISTANT, 0, ("content",))
            out.walk(doc.get("stop_sequence"), UNKNOWN, Origin.ASSISTANT, 0, ("stop_sequence",))
            out.unknown(doc, _REPLY, Origin.ASSISTANT)
        else:
            out.walk(doc, UNKNOWN, Origin.ASSISTANT, 0, ())
        return out.parsed()._replace(thread=_named(doc))

    def stream(self, target: Target, model: str | None) -> StreamReader:
        return MessageStream(model)

    def refuse(self, target: Target, parsed: Parsed, message: str, as_reply: bool, request_id: str) -> Reply:
        if not as_reply or target.operation == "count_tokens":
            return self.error(400, "content_filter", message, request_id)
        whole = _message(f"msg_{request_id}", parsed.model)
        block = {"type": "text", "text": message}
        if not parsed.streaming:
            end = {"content": [block], "stop_reason": "refusal", "stop_details": _details(message)}
            return Reply(200, JSON, orjson.dumps({**whole, **end}))
        events: tuple[dict[str, Any], ...] = (
            {"type": "message_start", "message": whole},
            {"type": "content_block_start", "index": 0, "content_block": {**block, "text": ""}},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": message}},
            {"type": "content_block_stop", "index": 0},
        )
        return Reply(200, SSE, b"".join(map(_event, events)) + _refused(message, 0))

    def error(self, status: int, code: str, message: str, request_id: str = "") -> Reply:
        return error(status, message, request_id)


class AnthropicModels(Wire):
    """The wire of model lists."""

    name = "anthropic.models"
    provider = "anthropic"

    def read_request(self, doc: dict[str, Any], target: Target) -> Parsed:
        return Parsed(target.model, False, [], [])

    def read_reply(self, doc: Any, target: Target) -> Parsed:
        return read_catalogue(doc, "data", _MODEL)

    def stream(self, target: Target, model: str | None) -> StreamReader:
        return MessageStream(model)

    def refuse(self, target: Target, parsed: Parsed, message: str, as_reply: bool, request_id: str) -> Reply:
        return error(400, message, request_id)

    def error(self, status: int, code: str, message: str, request_id: str = "") -> Reply:
        return error(status, message, request_id)


_MODEL: Final[Table] = {
    "": shape(
        "id type data display_name created_at has_more first_id last_id capabilities lifecycle line "
        "deprecated_at retires_at max_tokens max_input_tokens"
    )
}


def error(status: int, message: str, request_id: str) -> Reply:
    kind = _TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")
    body = {"type": "error", "error": {"type": kind, "message": message}, "request_id": request_id or None}
    return Reply(status, JSON, orjson.dumps(body))


def _read_message(out: Collector, message: Any, turn: int, path: Path) -> None:
    """List one message of a request.

    Raises:
        Malformed: its role or content is not of a documented type.
    """
    if not isinstance(message, dict):
        raise Malformed(path, message, "an object with role and content")
    role = message.get("role")
    origin = _ORIGINS.get(role) if isinstance(role, str) else None
    if origin is None or not isinstance(role, str):
        raise Malformed((*path, "role"), role, "one of " + ", ".join(_ORIGINS))
    content = message.get("content")
    if isinstance(content, dict):
        raise Malformed((*path, "content"), content, "a string or a list of blocks")
    read_parts(out, content, BLOCKS, role, origin, turn, (*path, "content"))
    out.unknown(message, {"role", "content"}, origin, turn, path)


def _read_rest(out: Collector, doc: dict[str, Any]) -> None:
    """List what stands beside the messages: tools and their servers, output schemas, fields we do not
    know."""
    for key, table in (("tools", TOOLS), ("mcp_servers", SERVERS)):
        entries = doc.get(key)
        if isinstance(entries, list):
            for index, entry in enumerate(entries):
                read_parts(out, entry, table, "tool", Origin.TOOL_DEFINITION, index, (key, index))
        elif entries is not None:
            raise Malformed((key,), entries, "a list")
    for key in ("tool_choice", "output_config", "output_format"):
        out.walk(doc.get(key), "schema", Origin.TOOL_DEFINITION, -1, (key,))
    if isinstance(container := doc.get("container"), str):
        out.hidden(Origin.USER, -1, ("container",), "upstream state")
    else:
        out.walk(container, "container", Origin.TOOL_DEFINITION, -1, ("container",))
    if isinstance(thread := doc.get("thread"), dict):
        if "previous_message_id" in thread:
            out.hidden(Origin.USER, -1, ("thread",), "upstream state")
        out.unknown(thread, set(), Origin.USER, -1, ("thread",), {"type", "previous_message_id"})
    else:
        out.walk(thread, "thread", Origin.USER, -1, ("thread",))
    out.unknown(doc, _READ, Origin.USER, settings=_SETTINGS)


def _going_on(thread: Any) -> Thread | None:
    """The conversation that a request begins or goes on with, where Anthropic keeps it."""
    if not isinstance(thread, dict):
        return None
    before = thread.get("previous_message_id")
    return Thread((before,) if isinstance(before, str) else ())


def _named(message: Any) -> Thread | None:
    """By what a later request can go on from a message."""
    id = message.get("id") if isinstance(message, dict) else None
    return Thread((id,)) if isinstance(id, str) else None


_DELTAS: Final = {
    "text_delta": ("text", EventKind.TEXT),
    "thinking_delta": ("thinking", EventKind.REASONING),
    "input_json_delta": ("partial_json", EventKind.TOOL),
    "compaction_delta": ("content", EventKind.TEXT),
}
_DELTA_SETTINGS: Final = frozenset({"type", "signature", "encrypted_content"})


# The events of a stream, and the fields of each that are read or hold no text.
_EVENTS: Final = {
    "message_start": {"type", "message"},
    "content_block_start": {"type", "index", "content_block"},
    "content_block_delta": {"type", "index", "delta"},
    "content_block_stop": {"type", "index"},
    "message_delta": {"type", "delta", "usage", "context_management"},
    "message_stop": {"type"},
    "ping": {"type"},
    "error": {"type", "error", "request_id"},
}


class MessageStream(StreamReader):
    """Follows the events of one message; text blocks that follow each other are one text: `Runs`."""

    begins = frozenset({"content_block"})

    def __init__(self, model: str | None) -> None:
        self._model = model
        self._started = False
        self._done = False
        self._open: set[int] = set()
        self._runs = Runs()
        self._begun = Begun()  # blocks
        self._tokens = 0

    def final(self, channel: tuple[str | int, ...]) -> bool:
        return self._runs.final(channel)

    def read(self, frame: Frame) -> list[StreamEvent]:
        event = load_frame(frame)
        if event is None:
            return [StreamEvent(EventKind.OTHER, ())]
        kind = event.get("type")
        if not isinstance(kind, str) or kind not in _EVENTS:
            return loose(event, ()) or [StreamEvent(EventKind.OTHER, ())]
        events = self._known(kind, event)
        for key in event.keys() - _EVENTS[kind]:
            events += loose(event[key], (key,))
        return events or [StreamEvent(EventKind.OTHER, ())]

    def _known(self, kind: str, event: dict[str, Any]) -> list[StreamEvent]:
        index = number_of(event.get("index"), ("index",))
        match kind:
            case "content_block_delta":
                self._begun.check(index, ("index",))
                return self._runs.placed(_delta_events(event.get("delta"), index), index)
            case "content_block_start":
                block = event.get("content_block")
                is_text = isinstance(block, dict) and block.get("type") == "text"
                before = self._runs.begin(index, is_text, bool(self._open - {index}))
                self._begun.begin(index, ("index",))
                self._open.add(index)
                check_choices(self._open, ("index",))
                return before + self._runs.placed(_block_events(block, index, self._runs.goes_on(index)), index)
            case "content_block_stop":
                self._open.discard(index)
                return self._runs.end(index, bool(self._open))
            case "message_delta" | "message_stop" | "error":
                return self._runs.over() + self._last(kind, event)
            case "message_start":
                self._started = True
                message = event.get("message")
                self.thread = _named(message)
                self._begun.come_whole(isinstance(message, dict) and message.get("content"))
                return events_of(AnthropicMessages().read_reply(message, _NO_TARGET), ("message",))
        return []

    def _last(self, kind: str, event: dict[str, Any]) -> list[StreamEvent]:
        if kind == "message_delta":
            return self._message_delta(event)
        self._done = True
        if kind == "message_stop":
            return [StreamEvent(EventKind.STOP, ())]
        return [StreamEvent(EventKind.ERROR, ()), *loose(event.get("error"), ("error",))]

    def _message_delta(self, event: dict[str, Any]) -> list[StreamEvent]:
        usage = event.get("usage")
        if isinstance(usage, dict) and isinstance(tokens := usage.get("output_tokens"), int):
            self._tokens = tokens
        delta = event.get("delta")
        if not isinstance(delta, dict):
            return loose(delta, ("delta",))
        known = {"stop_reason", "container"}
        return [found for key in delta if key not in known for found in loose(delta[key], ("delta", key))]

    def sequel(self, doc: dict[str, Any], path: Path, others: Mapping[Path, str], text: str) -> dict[str, Any]:
        if path[0] not in self.begins:
            return super().sequel(doc, path, others, text)
        delta = {"type": f"{doc['content_block']['type']}_delta", path[1]: text}  # the block has begun
        return {"type": "content_block_delta", "index": doc.get("index", 0), "delta": delta}

    def stop(self, message: str) -> bytes:
        if self._done:
            return b""
        first = b"" if self._started else _event({"type": "message_start", "message": _message("", self._model)})
        closing = b"".join(_event({"type": "content_block_stop", "index": index}) for index in sorted(self._open))
        return first + closing + _refused(message, self._tokens)

    def fail(self, message: str) -> bytes:
        if self._done:
            return b""
        return _event({"type": "error", "error": {"type": "api_error", "message": message}})


def _delta_events(delta: Any, index: int) -> list[StreamEvent]:
    if not isinstance(delta, dict):
        return loose(delta, ("delta",))
    field, kind = _DELTAS.get(str(delta.get("type")), ("", EventKind.OTHER))
    events: list[StreamEvent] = []
    for key, value in delta.items():
        if key == field and isinstance(value, str):
            if value:
                events.append(StreamEvent(kind, (index, key), value, ("delta", key)))
        elif key in _DELTA_SETTINGS:
            continue
        elif isinstance(value, str) and value:
            events.append(StreamEvent(EventKind.OTHER, (index, key), value, ("delta", key)))
        else:
            events += loose(value, ("delta", key))
    return events


def _block_events(block: Any, index: int, goes_on: bool) -> list[StreamEvent]:
    """Events for a block as it begins: mostly empty, or with the beginning of its text; what a provider's own tools found comes
    whole. ``goes_on``: an empty text is told, since what waits goes out with this block from now on."""
    events: list[StreamEvent] = []
    if isinstance(block, dict):
        field, kind = _DELTAS.get(f"{block.get('type')}_delta", ("", EventKind.OTHER))
        if isinstance(text := block.get(field), str):
            if text or goes_on:
                events.append(StreamEvent(kind, (index, field), text, ("content_block", field)))
            block = {key: value for key, value in block.items() if key != field}
    out = Collector(strict=False)
    read_parts(out, block, BLOCKS, "assistant", Origin.ASSISTANT, 0, ("content_block",))
    return events + events_of(out.parsed())


def _message(id: str, model: str | None) -> dict[str, Any]:
    return {
        "id": id,
        "type": "message",
        "role": "assistant",
        "model": model or "",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 0, "output_tokens": 0},
    }


def _details(message: str) -> dict[str, Any]:
    return {"type": "refusal", "category": None, "explanation": message}


def _refused(message: str, tokens: int) -> bytes:
    delta = {"stop_reason": "refusal", "stop_sequence": None, "stop_details": _details(message)}
    end = {"type": "message_delta", "delta": delta, "usage": {"output_tokens": tokens}}
    return _event(end) + _event({"type": "message_stop"})


def _event(event: dict[str, Any]) -> bytes:
    return sse(orjson.dumps(event), str(event["type"]).encode())


_NO_TARGET: Final = Target(AnthropicMessages(), "messages")
