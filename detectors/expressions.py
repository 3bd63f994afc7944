"""The one door to Python's own engine for patterns: expressions that end where a match was seen to end.

To compile one takes half a millisecond, some take five, and a gateway has a thousand: at the first match of each a request
would wait for it, and every other request with it. So they are compiled before a generation serves, and what came of it is
kept in the cache's folder as Python's engine takes it. From there each is made at its first match, in some thirty microseconds:
few ever match, and a thousand that stand ready take seven megabytes, packed ones one.
"""

from __future__ import annotations

import functools
import hashlib
import re
import sys
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import orjson

from detectors.aside import kept
from patterns.schema import Kind

try:  # CPython's own, which no document promises; without them expressions are compiled anew at each start
    import _sre  # type: ignore[import-not-found]
    from re import _compiler, _parser  # type: ignore[attr-defined]
except ImportError:  # pragma: no cover
    _sre = None

_INLINE: Final = re.compile(r"\(\?[a-z]+\)")


class Source(NamedTuple):
    """An expression and its flags, as `re.compile` takes them."""

    expression: str
    flags: int


def anchor(body: str, kind: Kind) -> Source:
    """``body``, anchored at the end: a search from the left gives the leftmost start."""
    inline = _INLINE.match(body)
    head = inline.group() if inline else ""
    return Source(f"{head}(?:{body[len(head) :]})\\Z", int(re.ASCII if kind is Kind.PII else re.IGNORECASE))


def anchored(body: str, kind: Kind) -> re.Pattern[str]:
    """`anchor`, compiled."""
    return re.compile(*anchor(body, kind))


Make = Callable[[], re.Pattern[str]]
"""Gives an expression, which it may have made beforehand or make now, but does not compile."""


class Packed:
    """An expression as the cache keeps it; a `Make`."""

    __slots__ = ("_row", "_source")

    def __init__(self, source: Source, row: bytes) -> None:
        self._source, self._row = source, row

    def __call__(self) -> re.Pattern[str]:
        return _made(self._source, *orjson.loads(zlib.decompress(self._row)))


def compiled(sources: Sequence[Source], cache: Path | None) -> list[Make]:
    """Compile expressions; with a folder ``cache``, in a process of their own, or not at all where that was done before."""
    if cache is not None and _sre is not None and sources:
        identity = hashlib.sha256(repr((sys.version, _sre.MAGIC, sources)).encode("utf-8", "surrogatepass")).hexdigest()[:32]
        file = cache / f"python-{identity}.rows"
        if (found := kept(file, written, sources, functools.partial(_unpacked, sources))) is not None:
            return found
    return [functools.partial(_itself, re.compile(*source)) for source in sources]


def _itself(made: re.Pattern[str]) -> re.Pattern[str]:
    return made


def written(sources: Sequence[tuple[str, int]]) -> bytes:
    """Expressions as the cache keeps them, for `detectors.aside`: of each its length and itself, packed, and a sum of all."""
    rows = [zlib.compress(orjson.dumps(_code(Source(*source)))) for source in sources]
    data = b"".join(len(row).to_bytes(4) + row for row in rows)
    return data + zlib.crc32(data).to_bytes(4)


def _code(source: Source) -> tuple[int, int, dict[str, int], list[int]]:
    """Flags, groups, names of groups, and the engine's instructions."""
    parsed = _parser.parse(*source)
    state = parsed.state
    return source.flags | state.flags, state.groups - 1, state.groupdict, _compiler._code(parsed, source.flags)


def _unpacked(sources: Sequence[Source], data: bytes) -> list[Make] | None:
    if len(data) < 4 or zlib.crc32(data[:-4]) != int.from_bytes(data[-4:]):
        return None  # damaged
    found: list[Make] = []
    at = 0
    for source in sources:
        start = at + 4
        at = start + int.from_bytes(data[at:start])
        found.append(Packed(source, data[start:at]))
    return found


def _made(source: Source, flags: int, groups: int, names: dict[str, int], code: list[int]) -> re.Pattern[str]:
    by_number: list[str | None] = [None] * (groups + 1)
    for name, number in names.items():
        by_number[number] = name
    made: re.Pattern[str] = _sre.compile(source.expression, flags, code, groups, names, tuple(by_number))  # checks the code
    return made
