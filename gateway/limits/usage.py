"""How many tokens an exchange took: as the provider says in its reply, and estimated where it does not. Pure.

Read only for those whose tokens are limited: a whole reply is parsed once more for it, and of a stream the events that speak of
usage.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import orjson

from detectors.values import Segment

BYTES_PER_TOKEN: Final = 4
"""Of UTF-8, as providers' rules of thumb have it: English takes about so many, other scripts fewer characters of more bytes."""

MOST: Final = 10**8
"""Tokens of one exchange that are believed: no model takes as many, and an upstream must lock nobody out with one number."""

MAX_EVENT: Final = 2**20
"""Bytes of one event of a stream that are kept until it ends. A longer one is not looked at."""

FREE: Final = frozenset(
    {"count_tokens", "countTokens", "models.list", "models.get", "responses.input_tokens", "responses.get"}
)
"""Operations that take no tokens."""

_SPLITS: Final = (b"\n", b"\r", b"\x1e")  # what ends an event's line, and a realtime event as `wires.openai_realtime` cuts them


def estimated(segments: Iterable[Segment]) -> int:
    """What texts may come to as tokens."""
    return sum(len(one.text.encode("utf-8", "surrogatepass")) for one in segments) // BYTES_PER_TOKEN


class Usage:
    """Reads what a reply says of its tokens. Numbers only grow: in streams they say what it came to so far."""

    __slots__ = ("_line", "_skipping", "input", "output")

    def __init__(self) -> None:
        self.input: int | None = None
        self.output: int | None = None
        self._line = bytearray()
        self._skipping = False

    def tokens(self, request: Iterable[Segment], reply: Iterable[Segment]) -> int:
        """What it came to; parts of which nothing was said are estimated."""
        first = estimated(request) if self.input is None else self.input
        second = estimated(reply) if self.output is None else self.output
        return min(first + second, MOST)

    def take(self) -> int:
        """What was said, and no estimate; from here on it is said anew."""
        said = min((self.input or 0) + (self.output or 0), MOST)
        self.input = self.output = None
        return said

    def whole(self, body: bytes) -> None:
        """A whole reply."""
        if b'"usage' in body:
            self._read(body)

    def feed(self, chunk: bytes) -> None:
        """Some bytes of a stream, cut anywhere."""
        for split in _SPLITS[1:]:
            if split in chunk:
                chunk = chunk.replace(split, b"\n")
        *lines, rest = chunk.split(b"\n")
        for line in lines:
            self._line += line
            if not self._skipping and b'"usage' in self._line:
                self._read(bytes(self._line.removeprefix(b"data:")))
            self._line.clear()
            self._skipping = False
        self._line += rest
        if len(self._line) > MAX_EVENT:
            self._line.clear()
            self._skipping = True

    def _read(self, data: bytes) -> None:
        try:
            doc: Any = orjson.loads(data)
        except orjson.JSONDecodeError:
            return
        for place in (doc, _object(doc, "response"), _object(doc, "message")):
            self._note(_object(place, "usage"), ("input_tokens", "prompt_tokens"), ("output_tokens", "completion_tokens"))
        found = _object(doc, "usageMetadata")
        self._note(found, ("promptTokenCount", "toolUsePromptTokenCount"), ("candidatesTokenCount", "thoughtsTokenCount"))

    def _note(self, usage: Mapping[str, Any], first: tuple[str, ...], second: tuple[str, ...]) -> None:
        """Take what is said. Anthropic tells what was written into its cache apart; what was read from it is not counted."""
        said = _sum(usage, (*first, "cache_creation_input_tokens"))
        if said is not None:
            self.input = max(said, self.input or 0)
        said = _sum(usage, second)
        if said is not None:
            self.output = max(said, self.output or 0)


def _object(doc: Any, name: str) -> Mapping[str, Any]:
    found = doc.get(name) if isinstance(doc, dict) else None
    return found if isinstance(found, dict) else {}


def _sum(usage: Mapping[str, Any], names: tuple[str, ...]) -> int | None:
    said = [value for name in names if isinstance(value := usage.get(name), int) and not isinstance(value, bool) and value >= 0]
    return min(sum(said), MOST) if said else None
