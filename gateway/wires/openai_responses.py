"""OpenAI responses: ``POST /v1/responses``. What its items are stands in `openai_items`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from detectors.values import Origin, Path
from gateway.wires import openai_common as common
from gateway.wires.base import JSON, SSE, EventKind, Malformed, Parsed, Reply, StreamEvent, StreamReader, Target, Thread, Wire
from gateway.wires.blocks import read_parts
from gateway.wires.collecting import UNKNOWN, Collector, want_flag, want_model, words
from gateway.wires.events import events_of, load_frame, loose, sse
from gateway.wires.frames import Frame
from gateway.wires.numbering import number_of
from gateway.wires.openai_items import PARTS, read_item, read_items
from gateway.wires.openai_places import PLACES, Places

# Settings of the call that hold no text for the model. Every field not named here or read below is walked and listed.
_SETTINGS: Final = words(
    "model stream stream_options temperature top_p max_output_tokens max_tool_calls",
    "parallel_tool_calls service_tier store include truncation background reasoning prompt_cache_key moderation",
    "prompt_cache_retention prompt_cache_options safety_identifier top_logprobs access_programs",
    "context_management image",
)
_READ: Final = words("input instructions tools text tool_choice prompt previous_response_id conversation")
_REPLY: Final = _SETTINGS | _READ | words(
    "id object created_at completed_at status output usage incomplete_details billing input_transformations",
    "prompt_cache_diagnostics tool_usage error",
)


class OpenAIResponses(Wire):
    """The wire of responses."""

    name = "openai.responses"
    provider = "openai"

    def read_request(self, doc: dict[str, Any], target: Target) -> Parsed:
        out = Collector()
        _read_context(out, doc)
        items = doc.get("input")
        if isinstance(items, str):
            out.text(items, "user", Origin.USER, 0, ("input",))
        elif isinstance(items, list):
            read_items(out, items, Origin.USER, ("input",))
        elif items is not None:
            raise Malformed(("input",), items, "a string or a list of items")
        out.unknown(doc, _READ, Origin.USER, settings=_SETTINGS)
        # A stored prompt names its own model.
        named = "model" in doc or not ("prompt" in doc or target.operation == "responses.input_tokens")
        model = want_model(doc) if named else None
        before = (doc.get("previous_response_id"), _conversation(doc))
        ids = tuple(each for each in before if isinstance(each, str))
        thread = Thread(ids, doc.get("store") is not False or before[1] is not None)
        return out.parsed(model, want_flag(doc, "stream"))._replace(thread=thread)

    def read_reply(self, doc: Any, target: Target) -> Parsed:
        out = Collector(strict=False)
        if isinstance(doc, dict) and isinstance(items := doc.get("output"), list):
            _read_context(out, doc)
            read_items(out, items, Origin.ASSISTANT, ("output",))
            out.walk(doc.get("error"), "error", Origin.ASSISTANT, -1, ("error",))
            out.unknown(doc, _REPLY, Origin.ASSISTANT)
        else:
            out.walk(doc, UNKNOWN, Origin.ASSISTANT, 0, ())
        return out.parsed()._replace(thread=_thread(doc))

    def stream(self, target: Target, model: str | None) -> StreamReader:
        return ResponseStream(model)

    def refuse(self, target: Target, parsed: Parsed, message: str, as_reply: bool, request_id: str) -> Reply:
        if not as_reply or target.operation != "responses":
            return common.refusal_error(message)
        response = _incomplete(_head(f"resp_{request_id}", parsed.model))
        refusal = {"type": "refusal", "refusal": message}
        item = {"id": f"msg_{request_id}", "type": "message", "role": "assistant", "status": "incomplete"}
        whole = {**response, "output": [{**item, "content": [refusal]}]}
        if not parsed.streaming:
            return Reply(200, JSON, orjson.dumps(whole))
        place = {"item_id": item["id"], "output_index": 0, "content_index": 0}
        events: list[dict[str, Any]] = [
            {"type": "response.created", "response": _head(f"resp_{request_id}", parsed.model)},
            {"type": "response.output_item.added", "output_index": 0, "item": {**item, "content": []}},
            {"type": "response.content_part.added", **place, "part": {**refusal, "refusal": ""}},
            {"type": "response.refusal.delta", **place, "delta": message},
            {"type": "response.refusal.done", **place, "refusal": message},
            {"type": "response.content_part.done", **place, "part": refusal},
            {"type": "response.output_item.done", "output_index": 0, "item": whole["output"][0]},
            {"type": "response.incomplete", "response": whole},
        ]
        return Reply(200, SSE, b"".join(_event(event, number) for number, event in enumerate(events)))

    def error(self, status: int, code: str, message: str, request_id: str = "") -> Reply:
        return common.error(status, code, message)


class StoredResponse(OpenAIResponses):
    """A response that the provider keeps, as it is asked for: above all one that is made in the background."""

    def read_request(self, doc: dict[str, Any], target: Target) -> Parsed:
        return Parsed(None, target.sse, [], [], Thread((target.id,), kept=False))


def _conversation(doc: dict[str, Any]) -> Any:
    """A conversation's id, which is named by itself or in an object."""
    named = doc.get("conversation")
    return named.get("id") if isinstance(named, dict) else named


def _thread(response: Any) -> Thread | None:
    """By what a later request can go on from a response."""
    if not isinstance(response, dict):
        return None
    return Thread(tuple(each for each in (response.get("id"), _conversation(response)) if isinstance(each, str)))


def _read_context(out: Collector, doc: dict[str, Any]) -> None:
    """List what stands beside the items, in a request or as the reply repeats it."""
    instructions = doc.get("instructions")
    if isinstance(instructions, list):
        read_items(out, instructions, Origin.SYSTEM, ("instructions",))
    elif isinstance(instructions, str):
        out.text(instructions, "system", Origin.SYSTEM, -1, ("instructions",))
    elif instructions is not None:
        out.wrong(instructions, "a string", "system", Origin.SYSTEM, -1, ("instructions",))
    common.read_tools(out, doc.get("tools"), "tools")
    for key in ("text", "tool_choice"):
        out.walk(doc.get(key), "schema", Origin.TOOL_DEFINITION, -1, (key,))
    if (prompt := doc.get("prompt")) is not None:
        read_prompt(out, prompt)
    for key in ("previous_response_id", "conversation"):
        if doc.get(key) is not None:
            out.hidden(Origin.USER, -1, (key,), "upstream state")


def read_prompt(out: Collector, prompt: Any, path: Path = ("prompt",)) -> None:
    """List a stored prompt's variables; its text stays with the provider."""
    if not isinstance(prompt, dict):
        out.wrong(prompt, "an object with an id", "prompt", Origin.USER, -1, path)
        return
    out.hidden(Origin.SYSTEM, -1, path, "upstream state")
    for key, value in prompt.items():
        if key == "variables" and isinstance(value, dict):
            for name, variable in value.items():
                read_parts(out, variable, PARTS, "prompt", Origin.USER, -1, (*path, key, name))
        elif key in ("id", "version"):
            out.setting(value, "prompt", Origin.USER, -1, (*path, key))
        else:
            out.walk({key: value}, "prompt", Origin.USER, -1, path)


_TEXT: Final = "response.output_text.delta"
_SPOKEN: Final = "response.audio.transcript.delta"
# Pieces of text, by the event that brings them. What ends in ``.done`` repeats the whole of it.
_DELTAS: Final = {
    "response.output_text.delta": EventKind.TEXT,
    _SPOKEN: EventKind.TEXT,
    "response.refusal.delta": EventKind.REFUSAL,
    "response.reasoning_text.delta": EventKind.REASONING,
    "response.reasoning_summary_text.delta": EventKind.REASONING,
    "response.reasoning.delta": EventKind.REASONING,
    "response.function_call_arguments.delta": EventKind.TOOL,
    "response.mcp_call_arguments.delta": EventKind.TOOL,
    "response.custom_tool_call_input.delta": EventKind.CODE,
    "response.code_interpreter_call_code.delta": EventKind.CODE,
    "response.shell_call_command.delta": EventKind.CODE,
}
# Where an item or part that begins may have text already, by its type: the field, and the events that go on with it.
_BEGUN: Final = {
    "output_text": ("text", "response.output_text.delta"),
    "refusal": ("refusal", "response.refusal.delta"),
    "reasoning_text": ("text", "response.reasoning_text.delta"),
    "summary_text": ("text", "response.reasoning_summary_text.delta"),
    "function_call": ("arguments", "response.function_call_arguments.delta"),
    "mcp_call": ("arguments", "response.mcp_call_arguments.delta"),
    "custom_tool_call": ("input", "response.custom_tool_call_input.delta"),
    "code_interpreter_call": ("code", "response.code_interpreter_call_code.delta"),
}
_REPEATED: Final = frozenset({"text", "refusal", "transcript", "arguments", "input", "code", "command"})
_ENDS: Final = frozenset({"response.completed", "response.incomplete", "response.failed"})
_EVENT: Final = frozenset(
    {
        "type",
        "sequence_number",
        "item_id",
        "logprobs",
        "obfuscation",
        "response",
        *PLACES,
        "annotation_index",
    }
)


class ResponseStream(StreamReader):
    """Follows the events of one response."""

    textless = False  # the response that it tells of may have instructions and items in it
    varies = (("sequence_number",), ("obfuscation",))
    begins = frozenset({"item", "part"})
    joined = frozenset({"text"})

    def __init__(self, model: str | None) -> None:
        self._response: dict[str, Any] | None = None
        self._model = model
        self._number = 0
        self._done = False
        self._places = Places()

    def read(self, frame: Frame) -> list[StreamEvent]:
        events = [_of_family(event) for event in self._read(frame)]
        for event in events:
            if event.family == "text" and event.channel[0] != "whole":
                self._places.goes_on(event.channel[:-1], event.path)
        return events

    def _read(self, frame: Frame) -> list[StreamEvent]:
        event = load_frame(frame)
        if event is None:
            return [StreamEvent(EventKind.OTHER, ())]
        kind = event.get("type")
        kind = kind if isinstance(kind, str) else ""
        if isinstance(number := event.get("sequence_number"), int):
            self._number = number + 1
        self._places.note(kind, event)
        if kind == "response.audio.delta":
            return [StreamEvent(EventKind.AUDIO, (*_place(event), _SPOKEN)), *_rest(event, {"delta"})]
        if kind == "response.image_generation_call.partial_image":
            image = StreamEvent(EventKind.UNREAD, (*_place(event), kind), "image")
            return [image, *_rest(event, {"partial_image_b64", "partial_image_index"})]
        if kind.endswith(".delta"):
            return _delta(event, kind) + _rest(event, {"delta"}) or [StreamEvent(EventKind.OTHER, ())]
        events: list[StreamEvent] = []
        if kind in _ENDS:
            self._done = True
            events.append(StreamEvent(EventKind.STOP, ()))
            if kind == "response.failed":
                events.append(StreamEvent(EventKind.ERROR, ()))
        elif kind == "error" or event.get("error"):
            self._done = True
            events.append(StreamEvent(EventKind.ERROR, ()))
        if isinstance(response := event.get("response"), dict):
            self._response = response
            self.thread = _thread(response)
            events += events_of(OpenAIResponses().read_reply(response, _NO_TARGET), ("response",))
        else:
            events += loose(response, ("response",))
        begun = _begun(event) if kind.endswith(".added") else []
        rest = _rest(event, {"response"}, _repeated(kind))
        events += begun + [one for one in rest if not any(one.path[: len(each.path)] == each.path for each in begun)]
        if kind.endswith(".done"):
            events.append(StreamEvent(EventKind.STOP, _place(event)))
        if kind in _ENDS or kind.endswith(".done"):
            said = _said_again(event, kind)
            events = [one._replace(repeats=said.get(one.path)) if one.path in said else one for one in events]
        return events or [StreamEvent(EventKind.OTHER, ())]

    def sequel(self, doc: dict[str, Any], path: Path, others: Mapping[Path, str], text: str) -> dict[str, Any]:
        if path[0] not in self.begins:
            return super().sequel(doc, path, others, text)
        begun = next(event for event in _begun(doc) if event.path == path)
        *places, kind = begun.channel
        item = doc.get("item")
        names = [*(key for key in PLACES if doc.get(key) is not None), *(f"{key}_index" for key in path[1:2])]
        delta = {"type": kind, "item_id": item.get("id") if isinstance(item, dict) else doc.get("item_id"), "delta": text}
        return {**delta, **dict(zip(names, places, strict=False)), "sequence_number": doc.get("sequence_number", 0)}

    def stop(self, message: str) -> bytes:
        if self._done:
            return b""
        first = b""
        response = self._response
        if response is None:
            response = _head("", self._model)
            first = _event({"type": "response.created", "response": response}, self._number)
            self._number += 1
        # The text so far stands in the events that were sent; what a client keeps of the whole is this,
        # without it.
        end = {"type": "response.incomplete", "response": {**_incomplete(response), "output": []}}
        return first + _event(end, self._number)

    def fail(self, message: str) -> bytes:
        if self._done:
            return b""
        return _event({"type": "error", "code": "upstream_error", "message": message, "param": None}, self._number)


def _of_family(event: StreamEvent) -> StreamEvent:
    """Parts of text are one to clients (``output_text``), those of all messages together; thoughts are to who shows
    them as they come."""
    path = event.path
    if event.kind is EventKind.REASONING and path and event.channel[0] != "whole":
        return event._replace(family="thoughts")
    part = event.channel[-1:] == (_TEXT,) and all(isinstance(place, int) for place in event.channel[:-1])
    own = part or (event.channel[:1] == ("whole",) and path[-1:] == ("text",) and _is_part(path))
    return event._replace(family="text") if own and path else event


def _is_part(path: Path) -> bool:
    return path[0] == "part" or path[-3:-2] == ("content",)


def _place(event: dict[str, Any]) -> tuple[int, ...]:
    """Which item, and which part of it, an event is about."""
    return tuple(number_of(event[key], (key,)) for key in PLACES if event.get(key) is not None)


def _delta(event: dict[str, Any], kind: str) -> list[StreamEvent]:
    """Events for the piece of text that an event brings, or the pieces (of a shell's two outputs)."""
    place: tuple[str | int, ...] = (*_place(event), kind)
    delta = event.get("delta")
    if isinstance(delta, str):
        return [StreamEvent(_DELTAS.get(kind, EventKind.OTHER), place, delta, ("delta",))] if delta else []
    if not isinstance(delta, dict):
        return loose(delta, ("delta",))
    events: list[StreamEvent] = []
    for key, piece in delta.items():
        if isinstance(piece, str) and piece:
            events.append(StreamEvent(EventKind.OTHER, (*place, key), piece, ("delta", key)))
        else:
            events += loose(piece, ("delta", key))
    return events


def _begun(event: dict[str, Any]) -> list[StreamEvent]:
    """Events for the text that an item or a part has as it begins: the pieces that follow go on with it."""
    place = _place(event)
    return [one for name in ("item", "part") for one in _texts_of(event.get(name), (name,), place)]


def _said_again(event: dict[str, Any], kind: str) -> dict[Path, tuple[str | int, ...]]:
    """Where an event says once more what came in pieces, and in which channel that was."""
    place, pieces = _place(event), kind.removesuffix(".done") + ".delta"
    told = _begun(event)
    response = event.get("response")
    items = response.get("output") if isinstance(response, dict) else None
    for index, item in enumerate(items if isinstance(items, list) else ()):
        told += _texts_of(item, ("response", "output", index), (index,))
    said = {one.path: one.channel for one in told}
    return said | {(field,): (*place, pieces) for field in _REPEATED if pieces in _DELTAS and field in event}


def _texts_of(thing: Any, path: Path, place: tuple[str | int, ...]) -> list[StreamEvent]:
    """Events for the texts of an item or a part, and of the parts in it."""
    if not isinstance(thing, dict):
        return []
    things: list[tuple[Any, Path, tuple[str | int, ...]]] = [(thing, path, place)]
    for key in ("content", "summary"):
        parts = thing.get(key)
        for index, part in enumerate(parts if isinstance(parts, list) else ()):
            things.append((part, (*path, key, index), (*place, index)))
    found = []
    for one, here, where in things:
        field, kind = _BEGUN.get(str(one.get("type")), ("", "")) if isinstance(one, dict) else ("", "")
        if field and isinstance(text := one.get(field), str) and text:
            found.append(StreamEvent(_DELTAS[kind], (*where, kind), text, (*here, field)))
    return found


def _repeated(kind: str) -> EventKind:
    """What an event repeats that came in pieces before: ``response.output_text.done`` says the text once more."""
    return _DELTAS.get(kind.removesuffix(".done") + ".delta", EventKind.OTHER)


def _rest(event: dict[str, Any], read: set[str], repeated: EventKind = EventKind.OTHER) -> list[StreamEvent]:
    """Events for what else an event holds: items and parts that come whole, text that came in pieces before, of kind
    ``repeated``, and fields that we do not know."""
    out = Collector(strict=False)
    found: list[StreamEvent] = []
    for key, value in event.items():
        if key == "item" and key not in read:
            read_item(out, value, Origin.ASSISTANT, 0, (key,))
        elif key == "part" and key not in read:
            read_parts(out, value, PARTS, "assistant", Origin.ASSISTANT, 0, (key,))
        elif key not in _EVENT and key not in read:
            found += loose(value, (key,), repeated if key in _REPEATED else EventKind.OTHER)
    return found + events_of(out.parsed())


def _head(id: str, model: str | None) -> dict[str, Any]:
    return {
        "id": id,
        "object": "response",
        "created_at": 0,
        "status": "in_progress",
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "model": model or "",
        "output": [],
        "parallel_tool_calls": True,
        "temperature": None,
        "tool_choice": "auto",
        "tools": [],
        "top_p": None,
        "usage": None,
    }


def _incomplete(response: dict[str, Any]) -> dict[str, Any]:
    return {**response, "status": "incomplete", "incomplete_details": {"reason": "content_filter"}}


def _event(event: dict[str, Any], number: int) -> bytes:
    return sse(orjson.dumps({**event, "sequence_number": number}), str(event["type"]).encode())


_NO_TARGET: Final = Target(OpenAIResponses(), "responses")
