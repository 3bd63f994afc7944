"""The one door to Python's own engine for patterns: expressions that end where a match was seen to end.

To compile one takes half a millisecond, some take five, and a gateway has a thousand: at the first match of each a request
would wait for it, and every other request with it. So they are compiled before a generation serves, and what came of it is
kept in the cache's folder as Python's engine takes it: taking a thousand from there costs fifty milliseconds.
"""

from __future__ import annotations

import functools
import hashlib
import re
import sys
import zlib
from collections.abc import Sequence
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


def compiled(sources: Sequence[Source], cache: Path | None) -> list[re.Pattern[str]]:
    """Compile expressions; with a folder ``cache``, in a process of their own, or not at all where that was done before."""
    if cache is not None and _sre is not None and sources:
        identity = hashlib.sha256(repr((sys.version, _sre.MAGIC, sources)).encode("utf-8", "surrogatepass")).hexdigest()[:32]
        file = cache / f"python-{identity}.json.z"
        if (found := kept(file, written, sources, functools.partial(_unpacked, sources))) is not None:
            return found
    return [re.compile(*source) for source in sources]


def written(sources: Sequence[tuple[str, int]]) -> bytes:
    """Expressions as the cache keeps them; for `detectors.aside`."""
    return zlib.compress(orjson.dumps([_code(Source(*source)) for source in sources]))


def _code(source: Source) -> tuple[int, int, dict[str, int], list[int]]:
    """Flags, groups, names of groups, and the engine's instructions."""
    parsed = _parser.parse(*source)
    state = parsed.state
    return source.flags | state.flags, state.groups - 1, state.groupdict, _compiler._code(parsed, source.flags)


def _unpacked(sources: Sequence[Source], packed: bytes) -> list[re.Pattern[str]] | None:
    try:
        rows = orjson.loads(zlib.decompress(packed))
        return [_made(source, *row) for source, row in zip(sources, rows, strict=True)]
    except (ValueError, TypeError, RuntimeError, zlib.error):
        return None  # damaged


def _made(source: Source, flags: int, groups: int, names: dict[str, int], code: list[int]) -> re.Pattern[str]:
    by_number: list[str | None] = [None] * (groups + 1)
    for name, number in names.items():
        by_number[number] = name
    made: re.Pattern[str] = _sre.compile(source.expression, flags, code, groups, names, tuple(by_number))  # checks the code
    return made
