"""Read JSON as strictly as its strictest reader, so that we and the upstream can never see two different
documents.

RFC 8259 leaves repeated keys open: one parser takes the first, another the last. A body that says two things
at once could show us the harmless one, so it is refused.
"""

from __future__ import annotations

import json
from typing import Any, Final

import orjson

from detectors.values import Path, show_path

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
        raise BadJson("invalid_json", f"the body is not valid JSON: {_wrong(raw, error)}") from None
    try:
        # What the common clients send is what orjson writes, but for spaces; then no key was lost on the way, and none was
        # repeated.
        written = orjson.dumps(doc)
        if written != raw and written.translate(None, _SPACES) != raw.translate(None, _SPACES):
            json.loads(raw.decode(), object_pairs_hook=_distinct, parse_int=_nothing, parse_float=_nothing)
    except _Repeated:
        places = json.loads(raw.decode(), object_pairs_hook=_repeated, parse_int=_nothing, parse_float=_nothing)
        where = show_path(_place(places))
        raise BadJson("duplicate_key", f"{where}: its object repeats a key; each key may stand once") from None
    except (orjson.JSONEncodeError, RecursionError):
        raise BadJson("invalid_json", "the body is nested too deeply") from None
    return doc


class _Repeated(Exception):  # noqa: N818 - `loads` says it to the caller
    """An object repeats a key."""


class _Place(tuple[Any, ...]):
    """Where a key stands for the second time, from the value on that has this in its stead."""


def _wrong(raw: bytes, error: orjson.JSONDecodeError) -> str:
    try:
        raw.decode()
    except UnicodeDecodeError as undecodable:  # of which orjson says neither what nor where
        return f"not UTF-8 at byte {undecodable.start}"
    return f"{error.msg} at byte {error.pos}"


def _distinct(pairs: list[tuple[str, Any]]) -> None:
    if len({key for key, _ in pairs}) != len(pairs):
        raise _Repeated


def _repeated(pairs: list[tuple[str, Any]]) -> _Place:
    """Read again what repeats a key, to say where: nothing but that place is left of each object."""
    seen: set[str] = set()
    for key, value in pairs:
        if place := _place(value):
            return _Place((key, *place))
        if key in seen:
            return _Place((key,))
        seen.add(key)
    return _Place()


def _place(value: Any) -> Path:
    if isinstance(value, list):
        return next(((index, *place) for index, inner in enumerate(value) if (place := _place(inner))), ())
    return value if isinstance(value, _Place) else ()


def _nothing(number: str) -> None:
    """Numbers are orjson's to read; Python's own reader refuses those of very many digits."""
