"""What the echo model answers, before any provider's dialect. Pure and deterministic."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

import orjson

from detectors.values import Origin, Segment
from gateway.wires.base import Parsed

CREATED: Final = 1_700_000_000
"""When every reply was made, in Unix seconds: a clock would make two replies differ."""

MODELS: Final = ("echo-1", "echo-1-mini", "echo-embed-1")
"""The models that lists name. Requests may name any."""

WORDS_PER_CHUNK: Final = 3
ARGUMENT_CHUNK: Final = 16  # characters of a tool call's arguments in one chunk
DIMENSIONS: Final = 256  # of an embedding, where the request asks for none
MAX_DIMENSIONS: Final = 4096
MAX_CHOICES: Final = 8
MAX_SCHEMA_DEPTH: Final = 8  # a schema may refer to itself; what lies deeper is left out

_DIRECTIVE: Final = re.compile(r"^[ \t]*(say|think|call|stop):[ \t]*", re.MULTILINE)
_TOOL_NAME: Final = re.compile(r"[\w.-]+")
_PIECE: Final = re.compile(r"\s*\S+")

Finish = Literal["stop", "length", "tool"]


class Tool(NamedTuple):
    """A tool that the request offers: its name and the JSON schema of its arguments."""

    name: str
    schema: Any


class Call(NamedTuple):
    """A tool call in an answer."""

    name: str
    arguments: dict[str, Any]

    @property
    def text(self) -> str:
        return orjson.dumps(self.arguments).decode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """A request, as far as the echo model cares."""

    id: str  # of the request, from its content
    model: str
    parsed: Parsed
    tools: tuple[Tool, ...] = ()
    forced: str | None = None  # the tool that must be called; empty for any
    schema: Any = None  # of the answer, where JSON is asked for
    limit: int | None = None  # greatest length of the answer in words
    choices: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What is said, and what it costs."""

    ask: Ask
    reasoning: str
    text: str
    calls: tuple[Call, ...]
    finish: Finish
    prompt_words: int
    words: int  # of the answer, reasoning and arguments included
    reasoning_words: int


def request_id(doc: Any) -> str:
    """24 hex digits that name a request by its content."""
    return hashlib.sha256(orjson.dumps(doc, option=orjson.OPT_SORT_KEYS)).hexdigest()[:24]


def answer(ask: Ask) -> Answer:
    """Answer a request."""
    said, heard = _last(ask.parsed.segments)
    may_call = bool(ask.tools) and not heard
    directed = _directions(said, may_call)
    calls = tuple(directed.calls)
    if may_call and not calls and ask.forced is not None:
        chosen = next((tool for tool in ask.tools if tool.name == ask.forced), ask.tools[0])
        calls = (Call(chosen.name, _as_object(_example(chosen.schema, chosen.schema, directed.rest))),)
    text = "" if calls else _text(ask, heard, directed)
    finish: Finish = "tool" if calls else "length" if directed.cut else "stop"
    if ask.limit is not None and not calls and count(text) > ask.limit:
        text = "".join(_PIECE.findall(text)[: ask.limit])
        finish = "length"
    return Answer(
        ask=ask,
        reasoning=directed.reasoning,
        text=text,
        calls=calls,
        finish=finish,
        prompt_words=sum(count(segment.text) for segment in ask.parsed.segments),
        words=count(text) + count(directed.reasoning) + sum(count(call.text) for call in calls),
        reasoning_words=count(directed.reasoning),
    )


def count(text: str) -> int:
    """The tokens of a text: its words."""
    return len(text.split())


def pieces(text: str) -> Iterator[str]:
    """A text in chunks of a few words, which together are the text."""
    ends = [word.end() for word in _PIECE.finditer(text)]
    cuts = ends[WORDS_PER_CHUNK - 1 : -1 : WORDS_PER_CHUNK]
    begin = 0
    for end in (*cuts, len(text)):
        if begin < end:
            yield text[begin:end]
        begin = end


def argument_pieces(text: str) -> Iterator[str]:
    """The JSON text of a tool call's arguments in chunks."""
    for begin in range(0, len(text), ARGUMENT_CHUNK):
        yield text[begin : begin + ARGUMENT_CHUNK]


def embedding(text: str, dimensions: int) -> list[float]:
    """A unit vector: texts that share words lie near each other."""
    vector = [0.0] * dimensions
    for word in text.casefold().split() or [""]:
        digest = hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        number = int.from_bytes(digest, "little")
        vector[(number >> 1) % dimensions] += 1.0 if number & 1 else -1.0
    length = math.sqrt(sum(value * value for value in vector))
    if not length:
        vector[0] = length = 1.0
    return [value / length for value in vector]


class _Directed(NamedTuple):
    """What a message directs, and the rest of its text."""

    say: str | None
    reasoning: str
    calls: list[Call]
    cut: bool
    rest: str


def _directions(text: str, may_call: bool) -> _Directed:
    say: str | None = None
    reasoning = ""
    calls: list[Call] = []
    cut = False
    rest: list[str] = []
    at = 0
    while found := _DIRECTIVE.search(text, at):
        rest.append(text[at : found.start()])
        at = found.end()
        line_end = text.find("\n", at)
        line_end = len(text) if line_end < 0 else line_end
        match found[1]:
            case "say":
                say, at = text[at:], len(text)
            case "think":
                reasoning, at = text[at:line_end], line_end
            case "stop":
                cut, at = text[at:line_end].strip() == "length", line_end
            case "call" if may_call and (named := _TOOL_NAME.match(text, at)):
                arguments, at = _arguments(text, named.end())
                calls.append(Call(named[0], arguments))
            case _:
                rest.append(text[found.start() : at])
    return _Directed(say, reasoning, calls, cut, "".join((*rest, text[at:])).strip("\n"))


def _arguments(text: str, at: int) -> tuple[dict[str, Any], int]:
    """The JSON object that comes next in ``text``, or an empty one, and where it ends."""
    begin = at + len(text[at:]) - len(text[at:].lstrip())
    if not text.startswith("{", begin):
        return {}, at
    try:
        value, end = json.JSONDecoder().raw_decode(text, begin)
    except (json.JSONDecodeError, RecursionError):
        return {}, at
    return value, end


def _last(segments: list[Segment]) -> tuple[str, str]:
    """The text of the last user message, and of the tool results that came after it."""
    spoken = [part for part in segments if part.turn >= 0 and not part.named]
    users = [part for part in spoken if part.origin is Origin.USER]
    turn = max((part.turn for part in users), default=-1)
    said = ""
    for part in users:
        if part.turn == turn:
            said += part.text if part.glued or not said else "\n" + part.text
    results = [part.text for part in spoken if part.origin is Origin.TOOL_RESULT and part.turn > turn]
    return said, "\n".join(results)


def _text(ask: Ask, heard: str, directed: _Directed) -> str:
    if heard:
        return f"The tool said: {heard}"
    if directed.say is not None:
        return directed.say
    if ask.schema is not None:
        return orjson.dumps(_example(ask.schema, ask.schema, directed.rest)).decode()
    return f"You said: {directed.rest}"


def _as_object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _example(schema: Any, root: Any, text: str, depth: int = 0) -> Any:
    """A value that fits a JSON schema, as far as type, enum, properties, items, anyOf and local ``$ref``
    say."""
    if not isinstance(schema, dict) or depth > MAX_SCHEMA_DEPTH:
        return {}
    if isinstance(reference := schema.get("$ref"), str):
        return _example(_resolve(root, reference), root, text, depth + 1)
    if isinstance(choices := schema.get("enum"), list) and choices:
        return choices[0]
    if "const" in schema:
        return schema["const"]
    for key in ("anyOf", "oneOf", "allOf"):
        if isinstance(options := schema.get(key), list) and options:
            return _example(options[0], root, text, depth + 1)
    kind = schema.get("type", "object")
    kind = str(kind[0] if isinstance(kind, list) and kind else kind).lower()  # Gemini's are in capitals
    if kind == "object":
        properties = _as_object(schema.get("properties"))
        return {name: _example(value, root, text, depth + 1) for name, value in properties.items()}
    if kind == "array":
        return [_example(schema.get("items"), root, text, depth + 1)] if schema.get("minItems") else []
    values: dict[str, Any] = {"string": text, "integer": 0, "number": 0, "boolean": False}
    return values.get(kind)


def _resolve(root: Any, reference: str) -> Any:
    value = root
    for step in reference.removeprefix("#").strip("/").split("/"):
        value = value.get(step) if isinstance(value, dict) else None
    return value
