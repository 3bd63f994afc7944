"""The texts of a request's body while it is still being sent. Pure: bytes in, pieces of text out.

It is a glance, not a reading: a JSON string is a text, spoken by whoever the last ``role`` before it names. What decides of the
request is the whole body, read by its wire; this only lets an alarm come before that.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

import orjson

from detectors.values import Origin

_ORIGINS: Final = {
    "system": Origin.SYSTEM, "developer": Origin.SYSTEM, "assistant": Origin.ASSISTANT, "model": Origin.ASSISTANT,
    "tool": Origin.TOOL_RESULT, "function": Origin.TOOL_RESULT,
}  # fmt: skip

_PLAIN: Final = re.compile(rb'[^"\\]+')
_ESCAPE: Final = re.compile(rb"\\(?:u(?:[dD][89abAB][0-9a-fA-F]{2}\\u[0-9a-fA-F]{4}|(?![dD][89abAB])[0-9a-fA-F]{4})|[^u])")
_HALF: Final = re.compile(rb"\\(?:u[0-9a-fA-F]{0,3}|u[dD][89abAB][0-9a-fA-F]{2}(?:\\(?:u[0-9a-fA-F]{0,3})?)?)?\Z")
_MAX_NAME: Final = 64
"""Bytes of a string that may be a key or a role; longer ones are neither."""


class Piece(NamedTuple):
    """A piece of a text: ``number`` tells the body's strings apart, ``origin`` is who seems to speak."""

    number: int
    origin: Origin
    text: str


class Arriving:
    """Follows one body; ``strings`` began so far. Bytes that are no JSON give pieces of no sense, and no error."""

    __slots__ = ("_inside", "_key", "_left", "_name", "_origin", "_waits", "strings")

    def __init__(self) -> None:
        self._inside = False
        self._left = b""  # what the last bytes began: an escape, a character
        self.strings = 0
        self._name = b""  # the beginning of the string at hand, or the last one
        self._waits = False  # whether a string ended of which it is not known yet whether it is a key
        self._key = b""
        self._origin = Origin.USER

    def feed(self, data: bytes) -> list[Piece]:
        """Take the next bytes; gives the texts in them."""
        data, self._left = self._left + data, b""
        found: list[Piece] = []
        at = 0
        while at < len(data):
            at = self._in_string(data, at, found) if self._inside else self._between(data, at)
        return found

    def _between(self, data: bytes, at: int) -> int:
        quote = data.find(b'"', at)
        gap = data[at : quote if quote >= 0 else len(data)].strip()
        if self._waits and gap:
            self._waits = False
            if gap.startswith(b":"):
                self._key = self._name
            elif self._key == b"role":
                self._origin = _ORIGINS.get(self._name.decode("ascii", "replace"), Origin.USER)
        if quote < 0:
            return len(data)
        self._inside, self._name, self._waits = True, b"", False
        self.strings += 1
        return quote + 1

    def _in_string(self, data: bytes, at: int, found: list[Piece]) -> int:
        start = at
        while at < len(data) and data[at] != 0x22:
            match = _PLAIN.match(data, at) or _ESCAPE.match(data, at)
            if match is None:
                if _HALF.match(data, at):
                    break
                at += 1  # an escape that JSON does not have
                continue
            at = match.end()
        ended = at < len(data) and data[at] == 0x22
        whole = at if ended else _characters(data, start, at)
        raw = data[start:whole]
        if len(self._name) <= _MAX_NAME:
            self._name += raw[: _MAX_NAME + 1]
        if raw and (text := _text(raw)):
            found.append(Piece(self.strings, self._origin, text))
        if not ended:
            self._left = data[whole:]
            return len(data)
        self._inside, self._waits = False, True
        return at + 1


def _characters(data: bytes, start: int, end: int) -> int:
    """``end``, or where the character begins that the bytes up to it do not complete."""
    for back in range(1, min(3, end - start) + 1):
        byte = data[end - back]
        if byte >= 0xC0:
            wanted = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return end - back if back < wanted else end
        if byte < 0x80:
            break
    return end


def _text(raw: bytes) -> str:
    if b"\\" not in raw:
        return raw.decode("utf-8", "replace")
    try:
        return str(orjson.loads(b'"' + raw + b'"'))
    except orjson.JSONDecodeError:
        return raw.decode("utf-8", "replace")
