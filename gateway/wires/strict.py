"""Read JSON as strictly as its strictest reader, so that we and the upstream can never see two different
documents.

RFC 8259 leaves repeated keys open: one parser takes the first, another the last. A body that says two things
at once could show us the harmless one, so it is refused.
"""

from __future__ import annotations

import json
from typing import Any, Final

import orjson

_SPACES: Final = b" \t\r\n"


class BadJson(ValueError):  # noqa: N818 - it is the caller's mistake, named as such
    """Not JSON, or JSON that two readers may read in two ways. ``code`` is one of the gateway's own error
    codes."""

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        super().__init__(message)


def loads(body: bytes | str) -> Any:
    """Parse JSON.

    Raises:
        BadJson: it is not JSON or not UTF-8, nested too deeply, or an object repeats a key.
    """
    raw = body.encode("utf-8", "surrogatepass") if isinstance(body, str) else body
    try:
        doc = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise BadJson("invalid_json", f"the body is not valid JSON: {error.msg} at byte {error.pos}") from None
    try:
        # What the common clients send is what orjson writes, but for spaces; then no key was lost on the way, and none was
        # repeated.
        written = orjson.dumps(doc)
        if written != raw and written.translate(None, _SPACES) != raw.translate(None, _SPACES):
            json.loads(raw.decode(), object_pairs_hook=_distinct, parse_int=_nothing, parse_float=_nothing)
    except (orjson.JSONEncodeError, RecursionError):
        raise BadJson("invalid_json", "the body is nested too deeply") from None
    return doc


def _distinct(pairs: list[tuple[str, Any]]) -> None:
    if len({key for key, _ in pairs}) != len(pairs):
        raise BadJson("duplicate_key", "an object in the body repeats a key; each key may stand once")


def _nothing(number: str) -> None:
    """Numbers are orjson's to read; Python's own reader refuses those of very many digits."""
