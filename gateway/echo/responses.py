"""The echo model in the dialect of OpenAI's responses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

from gateway.echo import model
from gateway.echo.model import Answer, Ask, Tool
from gateway.wires.base import Target
from gateway.wires.events import sse


def ask(target: Target, doc: dict[str, Any]) -> Ask:
    """Read a request.

    Raises:
        Malformed: it is not one.
    """
    parsed = target.wire.read_request(doc, target)
    offered = [tool for tool in doc.get("tools") or () if isinstance(tool, dict) and isinstance(tool.get("name"), str)]
    choice = doc.get("tool_choice")
    forced = "" if choice == "required" else choice.get("name") if isinstance(choice, dict) else None
    text = doc.get("text")
    wanted = text.get("format") if isinstance(text, dict) else None
    limit = doc.get("max_output_tokens")
    return Ask(
        id=model.request_id(doc),
        model=str(doc.get("model", "")),
        parsed=parsed,
        tools=tuple(Tool(tool["name"], tool.get("parameters")) for tool in offered if choice != "none"),
        forced=forced,
        schema=wanted.get("schema") if isinstance(wanted, dict) else None,
        limit=limit if isinstance(limit, int) and limit > 0 else None,
    )


def whole(answer: Answer, doc: dict[str, Any]) -> dict[str, Any]:
    """The whole reply."""
    cut = answer.finish == "length"
    return {
        **_head(answer, doc),
        "status": "incomplete" if cut else "completed",
        "completed_at": None if cut else model.CREATED,
        "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
        "output": _items(answer),
        "usage": _usage(answer),
    }


def input_tokens(answer: Answer) -> dict[str, Any]:
    """How many tokens a request has."""
    return {"object": "response.input_tokens", "input_tokens": answer.prompt_words}


def compacted(answer: Answer) -> dict[str, Any]:
    """A conversation in few words: none, and sealed."""
    item = {"type": "compaction", "id": f"cmp_{answer.ask.id}", "encrypted_content": "ZWNobw=="}
    head = {"id": f"resp_{answer.ask.id}", "object": "response.compaction", "created_at": model.CREATED}
    return {**head, "output": [item], "usage": _usage(answer)}


def _usage(answer: Answer) -> dict[str, Any]:
    return {
        "input_tokens": answer.prompt_words,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": answer.words,
        "output_tokens_details": {"reasoning_tokens": answer.reasoning_words},
        "total_tokens": answer.prompt_words + answer.words,
    }


def stream(answer: Answer, doc: dict[str, Any]) -> Iterator[bytes]:
    """The frames of a streamed reply."""
    for number, event in enumerate(_events(answer, doc)):
        yield sse(orjson.dumps({**event, "sequence_number": number}), event["type"].encode())


def _events(answer: Answer, doc: dict[str, Any]) -> Iterator[dict[str, Any]]:
    head = _head(answer, doc)
    yield {"type": "response.created", "response": head}
    yield {"type": "response.in_progress", "response": head}
    for index, item in enumerate(_items(answer)):
        place = {"item_id": item["id"], "output_index": index}
        empty = {key: [] if isinstance(value, list) else value for key, value in item.items()}
        empty["status"] = "in_progress"
        if item["type"] == "function_call":
            yield {
                "type": "response.output_item.added",
                "output_index": index,
                "item": {**empty, "arguments": ""},
            }
            for piece in model.argument_pieces(item["arguments"]):
                yield {"type": "response.function_call_arguments.delta", **place, "delta": piece}
            yield {"type": "response.function_call_arguments.done", **place, "arguments": item["arguments"]}
        elif item["type"] == "reasoning":
            yield {"type": "response.output_item.added", "output_index": index, "item": empty}
            yield from _reasoning_events(item["summary"][0], {**place, "summary_index": 0})
        else:
            yield {"type": "response.output_item.added", "output_index": index, "item": empty}
            yield from _text_events(item["content"][0], {**place, "content_index": 0})
        yield {"type": "response.output_item.done", "output_index": index, "item": item}
    last = whole(answer, doc)
    yield {"type": f"response.{last['status']}", "response": last}


def _reasoning_events(part: dict[str, Any], place: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield {"type": "response.reasoning_summary_part.added", **place, "part": {**part, "text": ""}}
    for piece in model.pieces(part["text"]):
        yield {"type": "response.reasoning_summary_text.delta", **place, "delta": piece}
    yield {"type": "response.reasoning_summary_text.done", **place, "text": part["text"]}
    yield {"type": "response.reasoning_summary_part.done", **place, "part": part}


def _text_events(part: dict[str, Any], place: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield {"type": "response.content_part.added", **place, "part": {**part, "text": ""}}
    for piece in model.pieces(part["text"]):
        yield {"type": "response.output_text.delta", **place, "delta": piece, "logprobs": []}
    yield {"type": "response.output_text.done", **place, "text": part["text"], "logprobs": []}
    yield {"type": "response.content_part.done", **place, "part": part}


def _items(answer: Answer) -> list[dict[str, Any]]:
    id = answer.ask.id
    status = "incomplete" if answer.finish == "length" else "completed"
    items: list[dict[str, Any]] = []
    if answer.reasoning:
        summary = {"type": "summary_text", "text": answer.reasoning}
        items.append({"id": f"rs_{id}", "type": "reasoning", "summary": [summary], "status": "completed"})
    for index, call in enumerate(answer.calls):
        items.append(
            {
                "id": f"fc_{id}{index}",
                "type": "function_call",
                "call_id": f"call_{id[:16]}{index}",
                "name": call.name,
                "arguments": call.text,
                "status": "completed",
            }
        )
    if not answer.calls:
        content = [{"type": "output_text", "text": answer.text, "annotations": [], "logprobs": []}]
        message = {
            "id": f"msg_{id}",
            "type": "message",
            "role": "assistant",
            "status": status,
            "content": content,
        }
        items.append(message)
    return items


def _head(answer: Answer, doc: dict[str, Any]) -> dict[str, Any]:
    named = doc.get("conversation")
    return {
        "id": f"resp_{answer.ask.id}",
        "object": "response",
        "created_at": model.CREATED,
        "status": "in_progress",
        "error": None,
        "incomplete_details": None,
        "instructions": doc.get("instructions"),
        "max_output_tokens": doc.get("max_output_tokens"),
        "metadata": doc.get("metadata") or {},
        "model": answer.ask.model,
        "output": [],
        "parallel_tool_calls": True,
        "previous_response_id": doc.get("previous_response_id"),
        "conversation": {"id": named.get("id") if isinstance(named, dict) else named} if named else None,
        "temperature": 1.0,
        "text": doc.get("text") or {"format": {"type": "text"}},
        "tool_choice": doc.get("tool_choice") or "auto",
        "tools": doc.get("tools") or [],
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": None,
    }
