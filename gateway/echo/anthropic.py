"""The echo model in Anthropic's dialect."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

from gateway.echo import model
from gateway.echo.model import Answer, Ask, Tool
from gateway.wires.base import Target
from gateway.wires.events import sse

_STOP = {"stop": "end_turn", "length": "max_tokens", "tool": "tool_use"}
_CREATED = "2023-11-14T22:13:20Z"  # `model.CREATED`


def ask(target: Target, doc: dict[str, Any]) -> Ask:
    """Read a request.

    Raises:
        Malformed: it is not one.
    """
    parsed = target.wire.read_request(doc, target)
    choice = doc.get("tool_choice")
    kind = choice.get("type") if isinstance(choice, dict) else None
    config = doc.get("output_config")
    wanted = config.get("format") if isinstance(config, dict) else doc.get("output_format")
    limit = doc.get("max_tokens")
    return Ask(
        id=model.request_id(doc),
        model=str(doc.get("model")),
        parsed=parsed,
        tools=tuple(
            Tool(str(tool.get("name", "")), tool.get("input_schema"))
            for tool in doc.get("tools") or ()
            if isinstance(tool, dict) and kind != "none"
        ),
        forced=str(choice.get("name", "")) if isinstance(choice, dict) and kind in ("tool", "any") else None,
        schema=wanted.get("schema") if isinstance(wanted, dict) else None,
        limit=limit if isinstance(limit, int) and limit > 0 else None,
    )


def whole(answer: Answer) -> dict[str, Any]:
    """The whole reply."""
    usage = {**_message(answer)["usage"], "output_tokens": answer.words}
    return {
        **_message(answer),
        "content": _blocks(answer),
        "stop_reason": _STOP[answer.finish],
        "usage": usage,
    }


def stream(answer: Answer) -> Iterator[bytes]:
    """The frames of a streamed reply."""
    yield _event({"type": "message_start", "message": _message(answer)})
    yield _event({"type": "ping"})
    for index, block in enumerate(_blocks(answer)):
        yield from _block_events(index, block)
    delta = {"stop_reason": _STOP[answer.finish], "stop_sequence": None}
    yield _event({"type": "message_delta", "delta": delta, "usage": {"output_tokens": answer.words}})
    yield _event({"type": "message_stop"})


def _block_events(index: int, block: dict[str, Any]) -> Iterator[bytes]:
    start: dict[str, Any]
    deltas: list[dict[str, Any]]
    match block["type"]:
        case "thinking":
            start = {**block, "thinking": "", "signature": ""}
            deltas = [{"type": "thinking_delta", "thinking": piece} for piece in model.pieces(block["thinking"])]
            deltas.append({"type": "signature_delta", "signature": block["signature"]})
        case "tool_use":
            start = {**block, "input": {}}
            text = orjson.dumps(block["input"]).decode()
            deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in model.argument_pieces(text)]
        case _:
            start = {**block, "text": ""}
            deltas = [{"type": "text_delta", "text": piece} for piece in model.pieces(block["text"])]
    yield _event({"type": "content_block_start", "index": index, "content_block": start})
    for delta in deltas:
        yield _event({"type": "content_block_delta", "index": index, "delta": delta})
    yield _event({"type": "content_block_stop", "index": index})


def count_tokens(answer: Answer) -> dict[str, Any]:
    """The reply to a request that asks for its own length."""
    return {"input_tokens": answer.prompt_words}


def models(name: str | None) -> dict[str, Any] | None:
    """The list of models, or one of them; None for a name that is not in the list."""
    entries = {one: {"type": "model", "id": one, "display_name": one, "created_at": _CREATED} for one in model.MODELS}
    if name is not None:
        return entries.get(name)
    ends = {"first_id": model.MODELS[0], "last_id": model.MODELS[-1]}
    return {"data": list(entries.values()), "has_more": False, **ends}


def _message(answer: Answer) -> dict[str, Any]:
    return {
        "id": f"msg_{answer.ask.id}",
        "type": "message",
        "role": "assistant",
        "model": answer.ask.model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": answer.prompt_words, "output_tokens": 0},
    }


def _blocks(answer: Answer) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = []
    if answer.reasoning:
        blocks.append({"type": "thinking", "thinking": answer.reasoning, "signature": f"echo-{answer.ask.id}"})
    for index, call in enumerate(answer.calls):
        id = f"toolu_{answer.ask.id[:16]}{index}"
        blocks.append({"type": "tool_use", "id": id, "name": call.name, "input": call.arguments})
    if answer.text:
        blocks.append({"type": "text", "text": answer.text})
    return blocks


def _event(event: dict[str, Any]) -> bytes:
    return sse(orjson.dumps(event), event["type"].encode())
