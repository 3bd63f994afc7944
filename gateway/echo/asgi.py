"""The echo model behind ASGI, and the two functions that it consists of."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from typing import Any, Final

import orjson

from gateway.echo import anthropic, gemini, model, openai, realtime, responses
from gateway.wires import routes, strict
from gateway.wires.base import JSON, SSE, Malformed, Reply, Target

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

MAX_BODY: Final = 64 * 1024 * 1024
"""Bytes of a request: what the largest provider takes, and more."""

MAX_DELAY_MS: Final = 60_000
"""Of the header ``x-echo-delay-ms``: a slower stream is no test of anything."""

_DELAY: Final = b"x-echo-delay-ms"


def respond(target: Target, doc: dict[str, Any]) -> Reply:
    """The whole reply to a request.

    Raises:
        Malformed: the request is not what its wire documents.
    """
    body = _document(target, doc)
    if body is None:
        if target.id:
            return target.wire.error(404, "not_found", "the echo model keeps no responses")
        return target.wire.error(404, "model_not_found", f"the echo model has no model of this name: {target.model}")
    return Reply(200, JSON, orjson.dumps(body))


def _document(target: Target, doc: dict[str, Any]) -> dict[str, Any] | None:
    match target.wire.name, target.operation:
        case "openai.chat", _:
            return openai.chat(model.answer(openai.chat_ask(target, doc)))
        case "openai.completions", _:
            return openai.completion(model.answer(openai.completion_ask(target, doc)))
        case "openai.responses", "responses.get":
            return None
        case "openai.responses", "responses.input_tokens":
            return responses.input_tokens(model.answer(responses.ask(target, doc)))
        case "openai.responses", "responses.compact":
            return responses.compacted(model.answer(responses.ask(target, doc)))
        case "openai.responses", _:
            return responses.whole(model.answer(responses.ask(target, doc)), doc)
        case "openai.embeddings", _:
            return openai.embeddings(target, doc)
        case "openai.models", _:
            return openai.models(target.model)
        case "anthropic.messages", "count_tokens":
            return anthropic.count_tokens(model.answer(anthropic.ask(target, doc)))
        case "anthropic.messages", _:
            return anthropic.whole(model.answer(anthropic.ask(target, doc)))
        case "anthropic.models", _:
            return anthropic.models(target.model)
        case "gemini.generate", "countTokens":
            return gemini.count_tokens(model.answer(gemini.ask(target, doc)))
        case "gemini.generate", _:
            return gemini.whole(model.answer(gemini.ask(target, doc)))
        case "gemini.embed", _:
            return gemini.embed(target, doc)
        case _:
            return gemini.models(target.model)


def stream(target: Target, doc: dict[str, Any]) -> Iterator[bytes]:
    """The frames of a streamed reply.

    Raises:
        Malformed: the request is not what its wire documents.
    """
    match target.wire.name:
        case "openai.chat":
            return openai.chat_stream(model.answer(openai.chat_ask(target, doc)), doc)
        case "openai.completions":
            return openai.completion_stream(model.answer(openai.completion_ask(target, doc)), doc)
        case "openai.responses":
            return responses.stream(model.answer(responses.ask(target, doc)), doc)
        case "anthropic.messages":
            return anthropic.stream(model.answer(anthropic.ask(target, doc)))
        case _:
            return gemini.stream(model.answer(gemini.ask(target, doc)), target)


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """The echo model as an ASGI application. The header ``x-echo-delay-ms`` is the pause before each frame of
    a stream."""
    if scope["type"] == "lifespan":
        await _lifespan(receive, send)
        return
    if scope["type"] == "websocket":
        await _session(scope, receive, send)
        return
    method, path, headers = scope["method"], scope["path"], scope["headers"]
    provider = routes.dialect(headers)
    target = routes.find(method, path, scope["query_string"], provider)
    body = await _body(receive)
    if body is None:
        return
    if len(body) > MAX_BODY:
        await _send(send, routes.wire_for_error(path, provider).error(413, "too_large", "the body is too large"))
        return
    if target is None:
        status = 405 if routes.allowed(path) else 404
        await _send(
            send,
            routes.wire_for_error(path, provider).error(status, "unknown_path", "no such method and path"),
        )
        return
    try:
        doc: Any = {} if method == "GET" else strict.loads(body)
        if not isinstance(doc, dict):
            raise strict.BadJson("invalid_json", "the body: wanted a JSON object")
        if doc.get("stream") is True or target.operation == "streamGenerateContent":
            await _stream(send, receive, target, stream(target, doc), _delay(headers))
        else:
            await _send(send, respond(target, doc))
    except (strict.BadJson, Malformed) as error:
        await _send(send, target.wire.error(400, "invalid_request", str(error)))


async def _session(scope: Scope, receive: Receive, send: Send) -> None:
    target = routes.find("GET", scope["path"], scope["query_string"])
    if target is None or scope["path"] != routes.REALTIME:
        await send({"type": "websocket.close"})
        return
    await realtime.serve(target, scope["headers"], scope["subprotocols"], receive, send, _delay(scope["headers"]))


async def _stream(send: Send, receive: Receive, target: Target, frames: Iterator[bytes], delay: float) -> None:
    form = JSON if target.wire.provider == "gemini" and not target.sse else SSE
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", form)]})
    for frame in frames:
        if delay and await _gone(receive, delay):
            return
        await send({"type": "http.response.body", "body": frame, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _gone(receive: Receive, delay: float) -> bool:
    """Wait; tell whether the caller went away meanwhile."""
    try:
        message = await asyncio.wait_for(receive(), delay)
    except TimeoutError:
        return False
    return bool(message["type"] == "http.disconnect")


async def _send(send: Send, reply: Reply) -> None:
    headers = [(b"content-type", reply.content_type), (b"content-length", str(len(reply.body)).encode())]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})


async def _body(receive: Receive) -> bytes | None:
    """The request's body, or as much as is too much of it; None if the caller went away."""
    chunks: list[bytes] = []
    size = 0
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        chunk = message.get("body", b"")
        size += len(chunk)
        chunks.append(chunk)
        more = message.get("more_body", False) and size <= MAX_BODY
    return b"".join(chunks)


def _delay(headers: list[tuple[bytes, bytes]]) -> float:
    value = next((value for name, value in headers if name == _DELAY), b"")
    return min(int(value), MAX_DELAY_MS) / 1000 if value.isdigit() else 0.0


async def _lifespan(receive: Receive, send: Send) -> None:
    """Nothing is to be set up or taken down."""
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return
