"""Escapes of JSON that are half a character: a surrogate without its other half, as senders write that count in UTF-16.

Readers of JSON differ in what they make of one, and no UTF-8 has it. So nobody is told of it: U+FFFD, which every reader of
text puts where something was unreadable, takes its place before the text is looked at, and goes out for it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from gateway.wires.frames import Frame  # which looks for halves itself

_READABLE: Final = re.compile(
    rb"(?:[^\\]++|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\(?!u[dD][89a-fA-F]).)*+", re.DOTALL
)
_HALF: Final = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
_UNREADABLE: Final = rb"\ufffd"


def may_have_halves(data: bytes) -> bool:
    """Whether `without_halves` is worth while: it has escapes of surrogates, or of Hangul beside them."""
    return b"\\ud" in data or b"\\uD" in data


def without_halves(data: bytes) -> bytes:
    """JSON, with what may stand around it, in which no escape is half a character."""
    parts: list[bytes] = []
    at, begin = 0, 0
    while (end := _READABLE.match(data, at).end()) < len(data):  # type: ignore[union-attr]
        if _HALF.match(data, end) is None:  # no escape at all: whoever reads it says so
            at = end + 1
            continue
        parts += (data[begin:end], _UNREADABLE)
        at = begin = end + len(_UNREADABLE)
    return b"".join((*parts, data[begin:])) if parts else data


def without_halves_in(frame: Frame) -> Frame:
    """As `without_halves`, of a frame."""
    data = without_halves(frame.data)
    return frame if data is frame.data else frame._replace(raw=without_halves(frame.raw), data=data)
