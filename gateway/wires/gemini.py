"""Gemini: ``POST /v1beta/models/{model}:generateContent`` and its kin, ``GET /v1beta/models``.

Google's servers take every field in lowerCamelCase and in snake_case (protobuf's JSON mapping); so does this
wire. What the parts of a message are stands in `gemini_parts`.
"""

from __future__ import annotations

from typing import Any, Final, Self

import orjson

from detectors.values import Origin, Path
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
    Wire,
    check_choices,
)
from gateway.wires.blocks import read_catalogue, read_parts
from gateway.wires.collecting import UNKNOWN, Collector
from gateway.wires.events import events_of, load_frame, loose, sse
from gateway.wires.frames import Frame, JsonArraySplitter, Splitter, SseSplitter
from gateway.wires.gemini_parts import CANDIDATE, CONFIG, MODEL, PARTS, candidates_asked, names, spellings
from gateway.wires.numbering import distinct, ended, number_of

_SETTINGS: Final = names("safetySettings model serviceTier store")
_READ: Final = names("contents systemInstruction tools toolConfig generationConfig cachedContent")
_EMBED: Final = names("model taskType outputDimensionality autoTruncate")
_REPLY: Final = names(
    "candidates promptFeedback usageMetadata modelVersion responseId createTime modelStatus totalTokens embedding",
    "embeddings cachedContentTokenCount promptTokensDetails cacheTokensDetails",
)
_ORIGINS: Final = {
    "user": Origin.USER,
    "model": Origin.ASSISTANT,
    "system": Origin.SYSTEM,
    "function": Origin.TOOL_RESULT,
}
_STATUS: Final = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    408: "DEADLINE_EXCEEDED",
    409: "ABORTED",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    504: "DEADLINE_EXCEEDED",
}


class GeminiGenerate(Wire):
    """The wire of ``generateContent``, ``streamGenerateContent`` and ``countTokens``."""

    name = "gemini.generate"
    provider = "gemini"

    def read_request(self, doc: dict[str, Any], target: Target) -> Parsed:
        out = Collector()
        inner = [key for key in spellings("generateContentRequest") if key in doc]
        for key in inner:
            if not isinstance(request := doc[key], dict):
                raise Malformed((key,), request, "an object")
            _read_request(out, request, (key,))
        _read_request(out, {key: doc[key] for key in doc if key not in inner}, ())
        if not inner and not doc.get("contents"):
            raise Malformed(("contents",), doc.get("contents"), "a list of at least one message")
        found = out.parsed(target.model, target.operation == "streamGenerateContent")
        return found._replace(choices=candidates_asked(doc))

    def read_reply(self, doc: Any, target: Target) -> Parsed:
        out = Collector(strict=False)
        # A stream in array form is one document when it is read whole.
        for path, chunk in enumerate(doc) if isinstance(doc, list) else ((None, doc),):
            _read_reply(out, chunk, () if path is None else (path,))
        return out.parsed()

    def stream(self, target: Target, model: str | None) -> StreamReader:
        return GeminiStream(target.sse, target.choices)

    def splitter(self, target: Target) -> Splitter:
        return SseSplitter() if target.sse else JsonArraySplitter()

    def refuse(self, target: Target, parsed: Parsed, message: str, as_reply: bool, request_id: str) -> Reply:
        # Google's own filter answers 200 and no candidates, whatever was asked; only counting has no such
        # form.
        if target.operation == "countTokens":
            return error(400, "content_filter", message)
        body = orjson.dumps(
            {
                "promptFeedback": {"blockReason": "SAFETY", "blockReasonMessage": message},
                "usageMetadata": {"promptTokenCount": 0, "totalTokenCount": 0},
                "modelVersion": parsed.model or "",
                "responseId": request_id,
            }
        )
        if not parsed.streaming:
            return Reply(200, JSON, body)
        return Reply(200, SSE, sse(body)) if target.sse else Reply(200, JSON, b"[" + body + b"]")

    def error(self, status: int, code: str, message: str, request_id: str = "") -> Reply:
        return error(status, code, message)


class GeminiEmbed(Wire):
    """The wire of ``embedContent`` and ``batchEmbedContents``. A refusal is always an error."""

    name = "gemini.embed"
    provider = "gemini"

    def read_request(self, doc: dict[str, Any], target: Target) -> Parsed:
        out = Collector()
        requests = doc.get("requests")
        if isinstance(requests, list):
            for turn, request in enumerate(requests):
                if not isinstance(request, dict):
                    raise Malformed(("requests", turn), request, "an object with content")
                _read_embedding(out, request, turn, ("requests", turn))
        elif requests is not None:
            raise Malformed(("requests",), requests, "a list")
        _read_embedding(out, {key: doc[key] for key in doc if key != "requests"}, 0, ())
        return out.parsed(target.model)

    def read_reply(self, doc: Any, target: Target) -> Parsed:
        out = Collector(strict=False)
        _read_reply(out, doc, ())
        return out.parsed()

    def stream(self, target: Target, model: str | None) -> StreamReader:
        return GeminiStream(target.sse)

    def refuse(self, target: Target, parsed: Parsed, message: str, as_reply: bool, request_id: str) -> Reply:
        return error(400, "content_filter", message)

    def error(self, status: int, code: str, message: str, request_id: str = "") -> Reply:
        return error(status, code, message)


class GeminiModels(Wire):
    """The wire of model lists."""

    name = "gemini.models"
    provider = "gemini"

    def read_request(self, doc: dict[str, Any], target: Target) -> Parsed:
        return Parsed(target.model, False, [], [])

    def read_reply(self, doc: Any, target: Target) -> Parsed:
        return read_catalogue(doc, "models", MODEL)

    def stream(self, target: Target, model: str | None) -> StreamReader:
        return GeminiStream(target.sse)

    def refuse(self, target: Target, parsed: Parsed, message: str, as_reply: bool, request_id: str) -> Reply:
        return error(400, "content_filter", message)

    def error(self, status: int, code: str, message: str, request_id: str = "") -> Reply:
        return error(status, code, message)


def error_body(status: int, code: str, message: str) -> dict[str, Any]:
    """The ``error`` object of Google's APIs (AIP-193); our own code is its reason."""
    name = _STATUS.get(status, "INVALID_ARGUMENT" if status < 500 else "UNAVAILABLE")
    info = {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": code.upper(),
        "domain": "portcullis",
    }
    return {"error": {"code": status, "message": message, "status": name, "details": [info]}}


def error(status: int, code: str, message: str) -> Reply:
    return Reply(status, JSON, orjson.dumps(error_body(status, code, message)))


def _read_request(out: Collector, doc: dict[str, Any], path: Path) -> None:
    for key in spellings("systemInstruction"):
        if (system := doc.get(key)) is not None:
            _read_content(out, system, "system", -1, (*path, key))
    contents = doc.get("contents")
    if isinstance(contents, dict):  # protobuf's JSON takes one message for a list of one
        _read_content(out, contents, "user", 0, (*path, "contents"))
    elif isinstance(contents, list):
        for turn, content in enumerate(contents):
            _read_content(out, content, "user", turn, (*path, "contents", turn))
    elif contents is not None:
        raise Malformed((*path, "contents"), contents, "a list of messages")
    _read_rest(out, doc, path)


def _read_content(out: Collector, content: Any, role: str, turn: int, path: Path) -> None:
    """List one message; ``role`` speaks where it does not say who does.

    Raises:
        Malformed: its role or parts are not of a documented type.
    """
    if isinstance(content, str) and role == "system":
        out.text(content, role, Origin.SYSTEM, turn, path)
        return
    if not isinstance(content, dict):
        raise Malformed(path, content, "an object with role and parts")
    said = content.get("role")
    if role == "system":
        origin = Origin.SYSTEM  # whatever role stands there
        out.setting(said, role, origin, turn, (*path, "role"))
    elif said is not None and said != "":
        if not isinstance(said, str) or said not in _ORIGINS:
            raise Malformed((*path, "role"), said, "one of " + ", ".join(_ORIGINS))
        role, origin = said, _ORIGINS[said]
    else:
        origin = _ORIGINS[role]
    parts = content.get("parts")
    if isinstance(parts, str):
        raise Malformed((*path, "parts"), parts, "a list of parts")
    read_parts(out, parts, PARTS, role, origin, turn, (*path, "parts"))
    out.unknown(content, {"role", "parts"}, origin, turn, path)


def _read_rest(out: Collector, doc: dict[str, Any], path: Path) -> None:
    """List what stands beside the messages: tools, output schemas, labels, fields we do not know."""
    tools = doc.get("tools")
    for index, tool in enumerate(tools if isinstance(tools, list) else [] if tools is None else [tools]):
        here: Path = (*path, "tools", index) if isinstance(tools, list) else (*path, "tools")
        out.walk(tool, "tool", Origin.TOOL_DEFINITION, index, here)
    for key in spellings("toolConfig"):
        out.walk(doc.get(key), "tool", Origin.TOOL_DEFINITION, -1, (*path, key))
    for key in spellings("generationConfig"):
        read_parts(out, doc.get(key), CONFIG, "config", Origin.USER, -1, (*path, key))
    for key in spellings("cachedContent"):
        if doc.get(key) is not None:
            out.hidden(Origin.USER, -1, (*path, key), "upstream state")
    out.unknown(doc, _READ, Origin.USER, -1, path, _SETTINGS)


def _read_embedding(out: Collector, request: dict[str, Any], turn: int, path: Path) -> None:
    if (content := request.get("content")) is not None:
        _read_content(out, content, "user", turn, (*path, "content"))
    if (title := request.get("title")) is not None:
        out.walk(title, "title", Origin.DOCUMENT, turn, (*path, "title"))
    out.unknown(request, {"content", "title"}, Origin.USER, turn, path, _EMBED)


def _read_reply(out: Collector, doc: Any, path: Path) -> None:
    if not isinstance(doc, dict):
        out.walk(doc, UNKNOWN, Origin.ASSISTANT, 0, path)
        return
    candidates = doc.get("candidates")
    if isinstance(candidates, list):
        for index, candidate in enumerate(candidates):
            read_parts(out, candidate, CANDIDATE, "model", Origin.ASSISTANT, index, (*path, "candidates", index))
    else:
        out.walk(candidates, UNKNOWN, Origin.ASSISTANT, 0, (*path, "candidates"))
    for key in ("embedding", "embeddings"):
        if key in doc:
            out.hidden(Origin.ASSISTANT, 0, (*path, key), "vectors")
    out.unknown(doc, _REPLY, Origin.ASSISTANT, -1, path)


_HEAD: Final = names("modelVersion responseId usageMetadata createTime")


class GeminiStream(StreamReader):
    """Follows the chunks of one streamed reply, in either form."""

    varies = (("usageMetadata", "candidatesTokenCount"), ("usageMetadata", "totalTokenCount"))
    said_once = names("thoughtSignature")
    said_again = names("jsonPath")

    def __init__(self, sse: bool, asked: int | None = None) -> None:
        """``asked``: how many candidates were asked for, where that is known."""
        self._sse = sse
        self._asked = asked
        self._begun = False
        self._done = False
        self._head: dict[str, Any] = {}
        self._open: dict[int, bool] = {}
        self._calls: dict[int, int] = {}  # how many have begun in each candidate

    def final(self, channel: tuple[str | int, ...]) -> bool:
        return len(channel) != 1  # models before 1.5, and what imitates them, give a reason to finish with every chunk

    def read(self, frame: Frame) -> list[StreamEvent]:
        if not frame.data:
            ended = not self._sse and b"]" in frame.raw
            self._done = self._done or ended
            return [StreamEvent(EventKind.STOP if ended else EventKind.OTHER, ())]
        self._begun = True
        chunk = load_frame(frame)
        if chunk is None:
            return [StreamEvent(EventKind.OTHER, ())]
        events: list[StreamEvent] = []
        for key, value in chunk.items():
            if key in _HEAD:
                self._head[key] = value
            elif key == "error":
                events += (StreamEvent(EventKind.ERROR, ()), *loose(value, (key,)))
            elif key == "candidates" and isinstance(value, list):
                distinct(value, (key,))
                for place, candidate in enumerate(value):
                    self._candidate(candidate, (key, place), events)
            elif key not in _REPLY or key == "candidates":
                events += loose(value, (key,))
        return events or [StreamEvent(EventKind.OTHER, ())]

    def _candidate(self, candidate: Any, path: Path, events: list[StreamEvent]) -> None:
        if not isinstance(candidate, dict):
            events += loose(candidate, path)
            return
        index = number_of(candidate.get("index"), (*path, "index"))
        content = candidate.get("content")
        parts = content.get("parts") if isinstance(content, dict) else None
        if isinstance(parts, list):
            for place, part in enumerate(parts):
                self._part(part, index, (*path, "content", "parts", place), events)
        else:
            events += loose(content, (*path, "content"))
        out = Collector(strict=False)
        rest = {key: value for key, value in candidate.items() if key != "content"}
        if isinstance(parts, list) and isinstance(content, dict):
            rest["content"] = {key: value for key, value in content.items() if key != "parts"}
        read_parts(out, rest, CANDIDATE, "model", Origin.ASSISTANT, index, path)
        events += events_of(out.parsed())
        finished = any(candidate.get(key) for key in spellings("finishReason"))
        self._open[index] = not finished
        check_choices(self._open, path, self._asked)
        if finished:
            events.append(StreamEvent(EventKind.STOP, (index,)))

    def _part(self, part: Any, index: int, path: Path, events: list[StreamEvent]) -> None:
        """Events for one part of a chunk. Parts of one kind go on where the chunk before left off; calls come whole, or their
        arguments in pieces."""
        if isinstance(part, dict) and isinstance(text := part.get("text"), str):
            thought = part.get("thought") or False
            if not isinstance(thought, bool):  # "no" is none to Google's client
                raise Malformed((*path, "thought"), thought, "true or false")
            kind = EventKind.REASONING if thought else EventKind.TEXT
            if text:
                events.append(StreamEvent(kind, (index, "thought" if thought else "text"), text, (*path, "text")))
            part = {key: value for key, value in part.items() if key != "text"}
        read: list[StreamEvent] = []
        for key in spellings("functionCall"):
            if isinstance(part, dict) and isinstance(call := part.get(key), dict):
                if call.get("name"):
                    self._calls[index] = self._calls.get(index, 0) + 1
                read += _pieces(call, (index, "call", self._calls.get(index, 0)), (*path, key))
        events += read
        out = Collector(strict=False)
        read_parts(out, part, PARTS, "model", Origin.ASSISTANT, index, path)
        paths = {event.path for event in read}
        events += [event for event in events_of(out.parsed()) if event.path not in paths]

    def hear_of(self, other: Self) -> None:
        self._open = dict.fromkeys(other._open, True) | self._open

    def stop(self, message: str) -> bytes:
        if self._done:
            return b""
        still = ended(self._asked, self._open) or sorted(self._open) or [0]
        candidates = [
            {
                "content": {"role": "model", "parts": []},
                "finishReason": "SAFETY",
                "finishMessage": message,
                "index": index,
            }
            for index in still
        ]
        return self._write({"candidates": candidates, **self._head}) + self._end()

    def fail(self, message: str) -> bytes:
        return b"" if self._done else self._write(error_body(502, "upstream_error", message)) + self._end()

    def _write(self, chunk: dict[str, Any]) -> bytes:
        body = orjson.dumps(chunk)
        return sse(body) if self._sse else (b",\r\n" if self._begun else b"[") + body

    def _end(self) -> bytes:
        return b"" if self._sse else b"\n]\n"


def _pieces(call: dict[str, Any], channel: tuple[str | int, ...], path: Path) -> list[StreamEvent]:
    """Events for strings in a call's arguments that come in pieces."""
    events: list[StreamEvent] = []
    for key in spellings("partialArgs"):
        pieces = call.get(key)
        for place, piece in enumerate(pieces if isinstance(pieces, list) else ()):
            if not isinstance(piece, dict):
                continue
            whose = (*channel, *(str(piece.get(name, "")) for name in spellings("jsonPath")))
            events += [
                StreamEvent(EventKind.OTHER, whose, text, (*path, key, place, name))
                for name in spellings("stringValue")
                if isinstance(text := piece.get(name), str) and text
            ]
            if not any(piece.get(name) for name in spellings("willContinue")):
                events.append(StreamEvent(EventKind.STOP, whose))
    return events
