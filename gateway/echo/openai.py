"""The echo model in OpenAI's dialects: chat completions, completions, embeddings, models."""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterator
from typing import Any

import orjson

from gateway.echo import model
from gateway.echo.model import Answer, Ask, Call, Tool
from gateway.wires.base import Target
from gateway.wires.events import sse
from gateway.wires.openai_common import DONE

_FINISH = {"stop": "stop", "length": "length", "tool": "tool_calls"}


def chat_ask(target: Target, doc: dict[str, Any]) -> Ask:
    """Read a chat completion's request.

    Raises:
        Malformed: it is not one.
    """
    tools = [entry.get("function") or entry.get("custom") or {} for entry in _objects(doc.get("tools"))]
    tools += _objects(doc.get("functions"))
    choice = doc.get("tool_choice", doc.get("function_call"))
    return Ask(
        id=model.request_id(doc),
        model=str(doc.get("model")),
        parsed=target.wire.read_request(doc, target),
        tools=tuple(Tool(str(tool.get("name", "")), tool.get("parameters")) for tool in tools if choice != "none"),
        forced=_forced(choice),
        schema=_schema(doc.get("response_format")),
        limit=_number(doc.get("max_completion_tokens", doc.get("max_tokens"))),
        choices=min(_number(doc.get("n")) or 1, model.MAX_CHOICES),
    )


def chat(answer: Answer) -> dict[str, Any]:
    """The whole reply of a chat completion."""
    message: dict[str, Any] = {"role": "assistant", "content": answer.text or None, "refusal": None}
    if answer.reasoning:
        message["reasoning_content"] = answer.reasoning
    if answer.calls:
        message["tool_calls"] = [_call(answer, index, call) for index, call in enumerate(answer.calls)]
    finish = _FINISH[answer.finish]
    choices = [
        {"index": number, "message": message, "logprobs": None, "finish_reason": finish} for number in range(answer.ask.choices)
    ]
    return {**_head(answer, "chatcmpl", "chat.completion"), "choices": choices, "usage": usage(answer)}


def chat_stream(answer: Answer, doc: dict[str, Any]) -> Iterator[bytes]:
    """The frames of a streamed chat completion."""
    head = _head(answer, "chatcmpl", "chat.completion.chunk")
    for number in range(answer.ask.choices):
        for delta in _deltas(answer):
            yield _chunk(head, {"index": number, "delta": delta, "logprobs": None, "finish_reason": None})
        end = {"index": number, "delta": {}, "logprobs": None, "finish_reason": _FINISH[answer.finish]}
        yield _chunk(head, end)
    yield from _stream_end(answer, head, doc)


def _deltas(answer: Answer) -> Iterator[dict[str, Any]]:
    yield {"role": "assistant", "content": None if answer.calls else ""}
    for piece in model.pieces(answer.reasoning):
        yield {"reasoning_content": piece}
    for piece in model.pieces(answer.text):
        yield {"content": piece}
    for index, call in enumerate(answer.calls):
        begun = _call(answer, index, call)
        begun["function"] = {"name": call.name, "arguments": ""}
        yield {"tool_calls": [{"index": index, **begun}]}
        for piece in model.argument_pieces(call.text):
            yield {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}


def completion_ask(target: Target, doc: dict[str, Any]) -> Ask:
    """Read a text completion's request.

    Raises:
        Malformed: it is not one.
    """
    return Ask(
        id=model.request_id(doc),
        model=str(doc.get("model")),
        parsed=target.wire.read_request(doc, target),
        limit=_number(doc.get("max_tokens")),
        choices=min(_number(doc.get("n")) or 1, model.MAX_CHOICES),
    )


def completion(answer: Answer) -> dict[str, Any]:
    """The whole reply of a text completion."""
    finish = _FINISH[answer.finish]
    choices = [
        {"index": number, "text": answer.text, "logprobs": None, "finish_reason": finish}
        for number in range(answer.ask.choices)
    ]
    return {**_head(answer, "cmpl", "text_completion"), "choices": choices, "usage": usage(answer)}


def completion_stream(answer: Answer, doc: dict[str, Any]) -> Iterator[bytes]:
    """The frames of a streamed text completion."""
    head = _head(answer, "cmpl", "text_completion")
    for number in range(answer.ask.choices):
        for piece in model.pieces(answer.text):
            yield _chunk(head, {"index": number, "text": piece, "logprobs": None, "finish_reason": None})
        end = {"index": number, "text": "", "logprobs": None, "finish_reason": _FINISH[answer.finish]}
        yield _chunk(head, end)
    yield from _stream_end(answer, head, doc)


def embeddings(target: Target, doc: dict[str, Any]) -> dict[str, Any]:
    """The reply of an embeddings request.

    Raises:
        Malformed: it is not one.
    """
    parsed = target.wire.read_request(doc, target)
    given = doc["input"]
    tokens = isinstance(given, list) and bool(given) and isinstance(given[0], int)
    inputs = [given] if isinstance(given, str) or tokens else given
    size = min(_number(doc.get("dimensions")) or model.DIMENSIONS, model.MAX_DIMENSIONS)
    packed = doc.get("encoding_format") == "base64"
    texts = [entry if isinstance(entry, str) else " ".join(map(str, entry)) for entry in inputs]
    words = sum(model.count(text) for text in texts)
    data = [
        {"object": "embedding", "index": index, "embedding": _vector(text, size, packed)} for index, text in enumerate(texts)
    ]
    return {
        "object": "list",
        "data": data,
        "model": parsed.model,
        "usage": {"prompt_tokens": words, "total_tokens": words},
    }


def models(name: str | None) -> dict[str, Any] | None:
    """The list of models, or one of them; None for a name that is not in the list."""
    entries = {one: {"id": one, "object": "model", "created": model.CREATED, "owned_by": "echo"} for one in model.MODELS}
    return {"object": "list", "data": list(entries.values())} if name is None else entries.get(name)


def usage(answer: Answer) -> dict[str, Any]:
    return {
        "prompt_tokens": answer.prompt_words,
        "completion_tokens": answer.words,
        "total_tokens": answer.prompt_words + answer.words,
        "completion_tokens_details": {"reasoning_tokens": answer.reasoning_words},
    }


def _head(answer: Answer, prefix: str, kind: str) -> dict[str, Any]:
    ask = answer.ask
    return {"id": f"{prefix}-{ask.id}", "object": kind, "created": model.CREATED, "model": ask.model}


def _chunk(head: dict[str, Any], choice: dict[str, Any]) -> bytes:
    return sse(orjson.dumps({**head, "choices": [choice]}))


def _stream_end(answer: Answer, head: dict[str, Any], doc: dict[str, Any]) -> Iterator[bytes]:
    options = doc.get("stream_options")
    if isinstance(options, dict) and options.get("include_usage"):
        yield sse(orjson.dumps({**head, "choices": [], "usage": usage(answer)}))
    yield DONE


def _call(answer: Answer, index: int, call: Call) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.text}
    return {"id": f"call_{answer.ask.id[:16]}{index}", "type": "function", "function": function}


def _vector(text: str, size: int, packed: bool) -> list[float] | str:
    values = model.embedding(text, size)
    return base64.b64encode(struct.pack(f"<{size}f", *values)).decode() if packed else values


def _forced(choice: Any) -> str | None:
    if choice == "required":
        return ""
    if not isinstance(choice, dict):
        return None
    if choice.get("type") == "allowed_tools":
        return "" if choice.get("mode") == "required" else None
    named = choice.get("function") or choice.get("custom") or choice
    return str(named.get("name", "")) if isinstance(named, dict) else None


def _schema(wanted: Any) -> Any:
    if not isinstance(wanted, dict):
        return None
    if wanted.get("type") == "json_object":
        return {"type": "object", "properties": {"said": {"type": "string"}}}
    described = wanted.get("json_schema")
    return described.get("schema") if isinstance(described, dict) else None


def _objects(value: Any) -> list[dict[str, Any]]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def _number(value: Any) -> int | None:
    return value if isinstance(value, int) and value > 0 else None
