"""The echo model in Gemini's dialect."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

from gateway.echo import model
from gateway.echo.model import Answer, Ask, Tool
from gateway.wires.base import Target
from gateway.wires.events import sse
from gateway.wires.gemini_parts import spellings

_FINISH = {"stop": "STOP", "length": "MAX_TOKENS", "tool": "STOP"}
_METHODS = ["generateContent", "streamGenerateContent", "countTokens", "embedContent", "batchEmbedContents"]


def ask(target: Target, doc: dict[str, Any]) -> Ask:
    """Read a request.

    Raises:
        Malformed: it is not one.
    """
    parsed = target.wire.read_request(doc, target)
    config = _get(doc, "generationConfig") or {}
    limit = _get(config, "maxOutputTokens")
    choices = _get(config, "candidateCount")
    calling = _get(_get(doc, "toolConfig"), "functionCallingConfig")
    mode = str(_get(calling, "mode") or "AUTO").upper()
    schema = _get(config, "responseSchema") or _get(config, "responseJsonSchema")
    return Ask(
        id=model.request_id(doc),
        model=target.model or "",
        parsed=parsed,
        tools=tuple(_tools(doc.get("tools"))) if mode != "NONE" else (),
        forced=_forced(calling) if mode == "ANY" else None,
        schema=schema,
        limit=limit if isinstance(limit, int) and limit > 0 else None,
        choices=min(choices, model.MAX_CHOICES) if isinstance(choices, int) and choices > 0 else 1,
    )


def whole(answer: Answer) -> dict[str, Any]:
    """The whole reply."""
    return {**_reply(answer, _parts(answer), _FINISH[answer.finish]), "usageMetadata": _usage(answer)}


def stream(answer: Answer, target: Target) -> Iterator[bytes]:
    """The frames of a streamed reply: server-sent events, or the elements of a JSON array."""
    chunks = list(_chunks(answer))
    for number, chunk in enumerate(chunks):
        body = orjson.dumps(chunk)
        if target.sse:
            yield sse(body)
        else:
            yield (b"\n,\r\n" if number else b"[") + body + (b"\n]\n" if number == len(chunks) - 1 else b"")


def _chunks(answer: Answer) -> Iterator[dict[str, Any]]:
    for piece in model.pieces(answer.reasoning):
        yield _reply(answer, [{"text": piece, "thought": True}], None)
    for piece in model.pieces(answer.text):
        yield _reply(answer, [{"text": piece}], None)
    for part in _parts(answer):
        if "functionCall" in part:
            yield _reply(answer, [part], None)
    yield {**_reply(answer, [{"text": ""}], _FINISH[answer.finish]), "usageMetadata": _usage(answer)}


def count_tokens(answer: Answer) -> dict[str, Any]:
    """The reply to a request that asks for its own length."""
    return {"totalTokens": answer.prompt_words}


def embed(target: Target, doc: dict[str, Any]) -> dict[str, Any]:
    """The reply of an embedding request, of one content or a batch.

    Raises:
        Malformed: it is not one.
    """
    segments = target.wire.read_request(doc, target).segments
    if target.operation == "embedContent":
        return {"embedding": _vector(doc, " ".join(part.text for part in segments))}
    texts: dict[int, list[str]] = {}
    for part in segments:
        texts.setdefault(part.turn, []).append(part.text)
    requests = doc.get("requests") or []
    return {"embeddings": [_vector(one, " ".join(texts.get(turn, []))) for turn, one in enumerate(requests)]}


def models(name: str | None) -> dict[str, Any] | None:
    """The list of models, or one of them; None for a name that is not in the list."""
    entries = {
        one: {
            "name": f"models/{one}",
            "version": "1",
            "displayName": one,
            "inputTokenLimit": 1_000_000,
            "outputTokenLimit": 100_000,
            "supportedGenerationMethods": _METHODS,
        }
        for one in model.MODELS
    }
    return {"models": list(entries.values())} if name is None else entries.get(name)


def _reply(answer: Answer, parts: list[dict[str, Any]], finish: str | None) -> dict[str, Any]:
    ended = {"finishReason": finish} if finish else {}
    candidates = [
        {"content": {"role": "model", "parts": parts}, **ended, "index": number} for number in range(answer.ask.choices)
    ]
    return {"candidates": candidates, "modelVersion": answer.ask.model, "responseId": answer.ask.id}


def _parts(answer: Answer) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = []
    if answer.reasoning:
        parts.append({"text": answer.reasoning, "thought": True})
    for index, call in enumerate(answer.calls):
        id = f"call_{answer.ask.id[:16]}{index}"
        parts.append({"functionCall": {"id": id, "name": call.name, "args": call.arguments}})
    if answer.text:
        parts.append({"text": answer.text})
    return parts


def _usage(answer: Answer) -> dict[str, Any]:
    return {
        "promptTokenCount": answer.prompt_words,
        "candidatesTokenCount": answer.words - answer.reasoning_words,
        "thoughtsTokenCount": answer.reasoning_words,
        "totalTokenCount": answer.prompt_words + answer.words,
    }


def _vector(request: dict[str, Any], text: str) -> dict[str, Any]:
    size = _get(request, "outputDimensionality") or _get(_get(request, "embedContentConfig"), "outputDimensionality")
    size = min(size, model.MAX_DIMENSIONS) if isinstance(size, int) and size > 0 else model.DIMENSIONS
    return {"values": model.embedding(text, size)}


def _tools(tools: Any) -> Iterator[Tool]:
    for tool in tools if isinstance(tools, list) else [tools]:
        declared = _get(tool, "functionDeclarations")
        for function in declared if isinstance(declared, list) else ():
            if isinstance(function, dict):
                schema = _get(function, "parameters") or _get(function, "parametersJsonSchema")
                yield Tool(str(function.get("name", "")), schema)


def _forced(calling: Any) -> str:
    names = _get(calling, "allowedFunctionNames")
    return str(names[0]) if isinstance(names, list) and names else ""


def _get(value: Any, name: str) -> Any:
    """A field by its name in either spelling, where there is one."""
    if isinstance(value, dict):
        return next((value[spelling] for spelling in spellings(name) if spelling in value), None)
    return None
