"""What the OpenAI wires share: errors, server-sent events that end in ``[DONE]``, tools, fields that nobody
knows."""

from __future__ import annotations

from typing import Any, Final

import orjson

from detectors.values import Origin, Path
from gateway.wires.base import JSON, SSE, Malformed, Reply
from gateway.wires.blocks import Table, hidden, read_parts, shape
from gateway.wires.collecting import Collector
from gateway.wires.events import sse

DONE: Final = b"data: [DONE]\n\n"

NO_USAGE: Final = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}

RATE_LIMITED: Final = "rate_limit_error"
_TYPES: Final = {401: "authentication_error", 403: "permission_error", 429: RATE_LIMITED}

_D: Final = Origin.TOOL_DEFINITION
# The keys by which a provider calls a tool's server are the caller's to send; no model sees them.
TOOLS: Final[Table] = {
    "mcp": shape("cache_control", _D, "tool", authorization=hidden("credential"), headers=hidden("credential")),
    "": shape("type cache_control", _D, "tool"),
}


def error_body(status: int, code: str, message: str) -> dict[str, Any]:
    """The ``error`` object that OpenAI's clients read."""
    kind = _TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def error(status: int, code: str, message: str) -> Reply:
    return Reply(status, JSON, orjson.dumps(error_body(status, code, message)))


def refusal_error(message: str) -> Reply:
    """A refused request: what Azure and OpenAI answer when their own filter blocks a prompt."""
    return error(400, "content_filter", message)


def stream_error(message: str) -> bytes:
    """A fault in the middle of a stream; the clients raise it. No ``[DONE]`` follows, for nothing was
    done."""
    return sse(orjson.dumps(error_body(502, "upstream_error", message)))


def filtered(chunks: list[dict[str, Any]], streaming: bool, whole: dict[str, Any]) -> Reply:
    """A reply that was filtered: one document, or the chunks of a stream and its end mark."""
    if streaming:
        return Reply(200, SSE, b"".join(sse(orjson.dumps(chunk)) for chunk in chunks) + DONE)
    return Reply(200, JSON, orjson.dumps(whole))


def read_tools(out: Collector, tools: Any, key: str, path: Path = ()) -> None:
    """List tool definitions, each a turn of its own. ``key`` holds them, in the object at ``path``.

    Raises:
        Malformed: they are no list of objects and ``out`` is strict.
    """
    if not isinstance(tools, list):
        if tools is not None:
            out.wrong(tools, "a list", "tool", Origin.TOOL_DEFINITION, -1, (*path, key))
        return
    for index, tool in enumerate(tools):
        if isinstance(tool, dict):
            read_parts(out, tool, TOOLS, "tool", Origin.TOOL_DEFINITION, index, (*path, key, index))
        else:
            out.wrong(tool, "an object", "tool", Origin.TOOL_DEFINITION, index, (*path, key, index))


def read_prompts(out: Collector, value: Any, key: str) -> None:
    """List an input of ``completions`` and ``embeddings``: a text, several, or token numbers, each a turn of
    its own.

    Raises:
        Malformed: it is something else.
    """
    if isinstance(value, str):
        out.text(value, "user", Origin.USER, 0, (key,))
    elif not isinstance(value, list):
        raise Malformed((key,), value, "a string, a list of strings or a list of tokens")
    elif value and all(isinstance(item, int) for item in value):
        out.hidden(Origin.USER, 0, (key,), "tokens")
    else:
        for index, item in enumerate(value):
            if isinstance(item, str):
                out.text(item, "user", Origin.USER, index, (key, index))
            elif isinstance(item, list) and all(isinstance(token, int) for token in item):
                out.hidden(Origin.USER, index, (key, index), "tokens")
            else:
                raise Malformed((key, index), item, "a string or a list of tokens")
