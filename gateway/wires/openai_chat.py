"""OpenAI chat completions: ``POST /v1/chat/completions``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final

from detectors.values import Origin, Path
from gateway.wires import openai_common as common
from gateway.wires.base import EventKind, Malformed, Parsed, Reply, StreamEvent, StreamReader, Target, Wire
from gateway.wires.blocks import DOCUMENT, FILE, LINK, TEXT, inside, read_parts, shape
from gateway.wires.collecting import UNKNOWN, Collector, want_flag, want_model, words
from gateway.wires.events import labels, loose
from gateway.wires.numbering import asked, ended, number_of
from gateway.wires.openai_calls import Calls
from gateway.wires.openai_choices import REPLY, ChoicesStream, read_choices
from gateway.wires.openai_deltas import audio_events, function_events, message_events, nested, part_events

# Settings of the call that hold no text for the model. Every field not named here or read below is walked and listed.
_SETTINGS: Final = words(
    "model stream stream_options temperature top_p n max_tokens max_completion_tokens seed logit_bias",
    "presence_penalty frequency_penalty logprobs top_logprobs service_tier store parallel_tool_calls modalities",
    "reasoning_effort verbosity prompt_cache_key prompt_cache_retention prompt_cache_options safety_identifier",
    "moderation",
)
_READ: Final = words("messages tool_choice function_call tools functions response_format prediction")
_MESSAGES: Final = frozenset({"messages"})
_MESSAGE: Final = frozenset({"role", "content", "tool_calls", "function_call"})
_PLAIN: Final = frozenset({"role", "content"})
_ORIGINS: Final = {
    "system": Origin.SYSTEM,
    "developer": Origin.SYSTEM,
    "user": Origin.USER,
    "assistant": Origin.ASSISTANT,
    "tool": Origin.TOOL_RESULT,
    "function": Origin.TOOL_RESULT,
}
_FILE: Final = {"": shape("file_id file_url format", unread="file", file_data=FILE, filename=DOCUMENT)}
_PARTS: Final = {
    "text": shape("cache_control", text=TEXT),
    "image_url": shape("cache_control", unread="image", image_url=LINK),
    "input_audio": shape("input_audio cache_control", unread="audio"),
    "video_url": shape("cache_control", unread="video", video_url=LINK),
    "file": shape("cache_control", file=inside(_FILE, Origin.DOCUMENT)),
}
_EMPTY: Final = frozenset({"refusal", "annotations", "audio"})  # present in every reply, and mostly without a value
_CHOICE: Final = frozenset({"index", "finish_reason", "message", "delta", "logprobs"})
_DELTA_KINDS: Final = {
    "content": EventKind.TEXT,
    "refusal": EventKind.REFUSAL,
    "reasoning_content": EventKind.REASONING,
    "reasoning": EventKind.REASONING,
    "reasoning_details": EventKind.REASONING,
    "thinking_blocks": EventKind.REASONING,
}


class OpenAIChat(Wire):
    """The wire of chat completions, in the dialects that providers with the same path have added to it."""

    name = "openai.chat"
    provider = "openai"

    def read_request(self, doc: dict[str, Any], target: Target) -> Parsed:
        out = Collector()
        messages = doc.get("messages")
        if not isinstance(messages, list) or not messages:
            raise Malformed(("messages",), messages, "a list of at least one message")
        for turn, message in enumerate(messages):
            read_message(out, message, turn, ("messages", turn))
        if doc.keys() & _READ != _MESSAGES:
            _read_rest(out, doc)
        out.unknown(doc, _READ, Origin.USER, settings=_SETTINGS)
        return out.parsed(want_model(doc), want_flag(doc, "stream"))._replace(choices=asked(doc.get("n")))

    def read_reply(self, doc: Any, target: Target) -> Parsed:
        return read_choices(doc, _read_choice)

    def stream(self, target: Target, model: str | None) -> StreamReader:
        return ChatStream(model, target.choices)

    def refuse(self, target: Target, parsed: Parsed, message: str, as_reply: bool, request_id: str) -> Reply:
        if not as_reply:
            return common.refusal_error(message)
        head = {"id": f"chatcmpl-{request_id}", "created": 0, "model": parsed.model or ""}
        choices = [{"index": number, "logprobs": None} for number in ended(parsed.choices, {0: True})]
        refusal = {"role": "assistant", "content": None, "refusal": message}
        chunk = {**head, "object": "chat.completion.chunk"}
        return common.filtered(
            [
                {**chunk, "choices": [{**one, "delta": refusal, "finish_reason": None} for one in choices]},
                {**chunk, "choices": [{**one, "delta": {}, "finish_reason": "content_filter"} for one in choices]},
            ],
            parsed.streaming,
            {
                **head,
                "object": "chat.completion",
                "choices": [{**one, "message": refusal, "finish_reason": "content_filter"} for one in choices],
                "usage": common.NO_USAGE,
            },
        )

    def error(self, status: int, code: str, message: str, request_id: str = "") -> Reply:
        return common.error(status, code, message)


class ChatStream(ChoicesStream):
    """Follows the chunks of one chat completion."""

    object = "chat.completion.chunk"
    nothing: ClassVar = {"delta": {}}
    known = REPLY | {"obfuscation"}  # random letters that hide how long the text is; no client shows them
    varies = (("obfuscation",),)
    said_once = frozenset({"id", "role"})

    def __init__(self, model: str | None, asked: int | None = None) -> None:
        super().__init__(model, asked)
        self._calls = Calls()

    def said(self, choice: dict[str, Any], number: int, path: Path, events: list[StreamEvent]) -> None:
        for key in choice.keys() - _CHOICE:
            if key == "text" and isinstance(choice[key], str):  # Together's chunks say beside the delta what it says
                events.append(StreamEvent(EventKind.TEXT, (number, key), choice[key], (*path, key)))
            else:
                events += loose(choice[key], (*path, key))
        events += labels(choice.get("finish_reason"), (*path, "finish_reason"), (number, "finish_reason"))
        delta = choice.get("delta")
        self._delta(delta, number, (*path, "delta"), events)
        if "message" in choice:
            so_far = self._open[number] and isinstance(delta, dict) and isinstance(delta.get("content"), str)
            events += message_events(choice["message"], number, (*path, "message"), so_far)

    def _delta(self, delta: Any, number: int, path: Path, events: list[StreamEvent]) -> None:
        if not isinstance(delta, dict):
            events += loose(delta, path)
            return
        for key, value in delta.items():
            if isinstance(value, str):
                if key == "role":
                    events += labels(value, (*path, key), (number, key))
                elif value:
                    kind = _DELTA_KINDS.get(key, EventKind.OTHER)
                    events.append(StreamEvent(kind, (number, key), value, (*path, key)))
            elif key in _DELTA_KINDS and isinstance(value, list):
                part_events(value, (number, key), _DELTA_KINDS[key], (*path, key), events)
            elif key == "tool_calls" and isinstance(value, list):
                for index, call in enumerate(value):
                    self._calls.read(call, number, (*path, key, index), events)
            elif key == "function_call":
                function_events(value, (number, key), "arguments", EventKind.TOOL, (*path, key), events)
            elif key == "audio" and isinstance(value, dict):
                audio_events(value, (number, key), (*path, key), events)
            else:
                nested(value, (number, key), (*path, key), events)

    def sequel(self, doc: dict[str, Any], path: Path, others: Mapping[Path, str], text: str) -> dict[str, Any]:
        made = super().sequel(doc, path, others, text)
        for choice in made["choices"]:
            choice.setdefault("delta", {})  # without which programs fail
        if path[3:4] == ("tool_calls",):
            choice, call = doc["choices"][path[1]], doc["choices"][path[1]]["delta"]["tool_calls"][path[4]]
            if id := self._calls.needs(call, number_of(choice.get("index"), path), path):
                made["choices"][0]["delta"]["tool_calls"][0]["id"] = others.get((*path[:5], "id"), id)
        return made


def read_message(out: Collector, message: Any, turn: int, path: Path) -> None:
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
    if isinstance(content, str) and origin is not Origin.TOOL_RESULT:
        out.text(content, role, origin, turn, (*path, "content"))
    elif isinstance(content, dict):
        raise Malformed((*path, "content"), content, "a string, a list of parts or null")
    else:
        read_parts(out, content, _PARTS, role, origin, turn, (*path, "content"))
    if message.keys() <= _PLAIN:
        return
    _read_calls(out, message, origin, turn, path)
    for key in sorted(message.keys() - _MESSAGE):
        if key in ("tool_call_id", "cache_control"):
            out.setting(message[key], role, origin, turn, (*path, key))
        elif key == "audio":
            out.hidden(origin, turn, (*path, key), "audio")
        else:
            out.walk({key: message[key]}, role, origin, turn, path)


def _read_calls(out: Collector, message: dict[str, Any], origin: Origin, turn: int, path: Path) -> None:
    calls = message.get("tool_calls")
    if isinstance(calls, list):
        for index, call in enumerate(calls):
            _read_call(out, call, origin, turn, (*path, "tool_calls", index))
    elif calls is not None:
        out.wrong(calls, "a list", "tool_call", origin, turn, (*path, "tool_calls"))
    if (call := message.get("function_call")) is not None:
        _read_function(out, call, origin, turn, (*path, "function_call"))


def _read_call(out: Collector, call: Any, origin: Origin, turn: int, path: Path) -> None:
    if not isinstance(call, dict):
        out.wrong(call, "an object with a function", "tool_call", origin, turn, path)
        return
    for key, value in call.items():
        if key == "function" or key == "custom":
            _read_function(out, value, origin, turn, (*path, key))
        elif key in ("id", "type", "index"):
            out.setting(value, "tool_call", origin, turn, (*path, key))
        else:
            out.walk({key: value}, "tool_call", origin, turn, path)


def _read_function(out: Collector, function: Any, origin: Origin, turn: int, path: Path) -> None:
    if not isinstance(function, dict):
        out.wrong(function, "an object with name and arguments", "tool_call", origin, turn, path)
        return
    for key, value in function.items():
        if key in ("arguments", "input") and isinstance(value, str):
            out.json_text(value, "tool_call", origin, turn, (*path, key))
        else:
            out.walk({key: value}, "tool_call", origin, turn, path)


def _read_rest(out: Collector, doc: dict[str, Any]) -> None:
    """List what stands beside the messages: tool definitions, output schemas, predictions."""
    for key in ("tools", "functions"):
        common.read_tools(out, doc.get(key), key)
    for key in ("tool_choice", "function_call", "response_format"):
        out.walk(doc.get(key), "schema", Origin.TOOL_DEFINITION, -1, (key,))
    if "prediction" in doc:
        out.walk(doc["prediction"], "prediction", Origin.ASSISTANT, -1, ("prediction",))


def _read_choice(out: Collector, choice: Any, index: int, path: Path) -> None:
    if not isinstance(choice, dict):
        out.walk(choice, UNKNOWN, Origin.ASSISTANT, index, path)
        return
    for key, value in choice.items():
        if key == "message" and isinstance(value, dict):
            _read_reply_message(out, value, index, (*path, key))
        elif key == "logprobs" and value is not None:
            out.hidden(Origin.ASSISTANT, index, (*path, key), "token probabilities")
        elif key == "message" or key not in _CHOICE:
            out.walk({key: value}, UNKNOWN, Origin.ASSISTANT, index, path)


def _read_reply_message(out: Collector, message: dict[str, Any], turn: int, path: Path) -> None:
    origin = Origin.ASSISTANT
    for key, value in message.items():
        here = (*path, key)
        if key == "content":
            read_parts(out, value, _PARTS, "assistant", origin, turn, here)
        elif key == "audio" and isinstance(value, dict):
            out.hidden(origin, turn, here, "audio")
            out.walk(value.get("transcript"), "assistant", origin, turn, (*here, "transcript"))
        elif key == "refusal" and isinstance(value, str):
            out.text(value, "assistant", origin, turn, here)
        elif key not in ("role", "tool_calls", "function_call") and (value or key not in _EMPTY):
            out.walk({key: value}, "assistant" if key in _DELTA_KINDS else UNKNOWN, origin, turn, path)
    _read_calls(out, message, origin, turn, path)
