"""The one door to Hyperscan: expressions in, ends of matches out.

Two forms of the same automata: `Block` scans a whole text, `Flow` a text that comes in pieces and carries its state from one
to the next. Both report where matches end, in bytes of UTF-8; Hyperscan's own tracking of where they start would make
many useful expressions too large to compile.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import re
import zlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path
from typing import Any, Final, NamedTuple

import hyperscan

from detectors import mapped
from detectors.aside import kept
from patterns import cache as caching
from patterns.schema import PatternError

MAX_MATCHES: Final = 20_000
"""Raw matches taken from one text. Each costs about a microsecond; a text made of nothing but digits must not stall us."""

BYTES_A_MATCH: Final = 16
"""Of a text that is longer than so many for each of them, one for every so many: a log has an address in each line."""


COMPILERS: Final = 4
"""Sets that are compiled at once, where there are as many cores: each takes some hundred megabytes meanwhile."""

_SUFFIX: Final = ".db.z"
"""Compiled sets are kept packed: 90 MB of those that ship become 8. Large ones are unpacked once, beside it, to be `mapped`."""


class Expression(NamedTuple):
    """One expression: whose it is (for errors), its body, whether case counts, and whether characters do.

    Hyperscan's automata are over bytes, and become many times larger where a class has to know all of Unicode. So ``.`` and
    ``[^x]`` stand for one byte unless ``exact``: enough for the gaps between words, not for the value that is redacted.
    """

    owner: str
    body: str
    caseless: bool
    exact: bool = True

    @property
    def flags(self) -> int:
        wide = not self.body.isascii() or (self.exact and _WIDE.search(self.body) is not None)
        caseless = hyperscan.HS_FLAG_CASELESS if self.caseless else 0
        return int((hyperscan.HS_FLAG_UTF8 if wide else 0) | caseless)


class Expressions(tuple[Expression, ...]):
    """A set to be compiled together, whose identity is reckoned once."""

    @functools.cached_property
    def sources(self) -> list[tuple[str, int]]:
        """Body and flags of each."""
        return [(one.body, one.flags) for one in self]

    def file(self, mode: int, cache: Path) -> Path:
        """Where the folder ``cache`` keeps the set, compiled for ``mode``."""
        if mode not in self._names:
            self._names[mode] = f"hyperscan-{_identity(self.sources, mode)}{_SUFFIX}"
        return cache / self._names[mode]

    @functools.cached_property
    def _names(self) -> dict[int, str]:
        return {}


class Ends(NamedTuple):
    """``(expression, end)`` of every match, end exclusive; ``exhausted`` when there were more than are taken."""

    found: list[tuple[int, int]]
    exhausted: bool


_NONE: Final = Ends([], False)
_WIDE: Final = re.compile(r"\[\^|\\[SWD]|(?<!\\)\.")  # what stands for characters beyond ASCII; a dot in a class too


class Block:
    """Scans whole texts. For one thread at a time: it owns one scratch space."""

    def __init__(self, expressions: Sequence[Expression], cache: Path | None = None, *, lasting: bool = True) -> None:
        """Compile ``expressions``, or take them from the folder ``cache`` where the same set was compiled before.

        Args:
            lasting: whether a large set is unpacked to a file there and `mapped`; else it is in memory whole.

        Raises:
            PatternError: Hyperscan cannot take one of them; the message names its owner.
        """
        self._database = _database(expressions, hyperscan.HS_MODE_BLOCK, cache, lasting)
        self._scratch = self._database.scratch

    def twin(self) -> Block:
        """The same automata with a scratch space of its own, for another thread."""
        twin = object.__new__(Block)
        twin._database, twin._scratch = self._database, self._scratch.clone()
        return twin

    def scan(self, data: bytes) -> Ends:
        """Find all expressions in ``data``, which must be UTF-8."""
        found: list[tuple[int, int]] = []
        try:
            note = _note if len(data) <= MAX_MATCHES * BYTES_A_MATCH else functools.partial(_noted, len(data) // BYTES_A_MATCH)
            self._database.scan(data, note, 0, found, self._scratch)  # by position: names cost as much as a short scan
        except hyperscan.ScanTerminated:
            return Ends(found, True)
        return Ends(found, False) if found else _NONE


def _note(number: int, _start: int, end: int, _flags: int, found: Any) -> bool:
    found.append((number, end))
    return len(found) > MAX_MATCHES


def _noted(most: int, number: int, _start: int, end: int, _flags: int, found: Any) -> bool:
    found.append((number, end))
    return len(found) > most


class FlowAutomata:
    """Expressions compiled for texts that come in pieces; any number of `Flow` s share one."""

    def __init__(self, expressions: Sequence[Expression], cache: Path | None = None) -> None:
        """As `Block`, of what lasts."""
        self._database = _database(expressions, hyperscan.HS_MODE_STREAM, cache, True)

    def open(self) -> Flow:
        return Flow(self._database)


class Flow:
    """One text that comes in pieces. `close` it: its state is Hyperscan's own memory."""

    __slots__ = ("_database", "_found", "_on_match", "_stream")

    def __init__(self, database: hyperscan.Database) -> None:
        self._found: list[tuple[int, int]] = []
        note = self._found.append

        def on_match(number: int, _start: int, end: int, _flags: int, _context: object) -> None:
            note((number, end))

        # The library keeps no reference of its own to the handler and the automata.
        self._on_match, self._database = on_match, database
        self._stream: hyperscan.Stream | None = database.stream(match_event_handler=on_match).__enter__()

    def scan(self, data: bytes) -> list[tuple[int, int]]:
        """Go on with ``data``; return the matches that end in it, with ends counted from the start of the text.

        Raises:
            ValueError: the flow is closed.
        """
        if self._stream is None:
            raise ValueError("the flow is closed")
        self._stream.scan(data)
        if not self._found:
            return []
        found = self._found[:]
        self._found.clear()
        return found

    def close(self) -> list[tuple[int, int]]:
        """End the text; return the matches that only its end completes."""
        if self._stream is None:
            return []
        self._stream.close(match_event_handler=self._on_match)
        self._stream = None
        found = self._found[:]
        self._found.clear()
        return found


def fits(expression: Expression, cache: Path | None) -> bool:
    """Whether Hyperscan takes an expression. The answer is kept in the folder ``cache``: trying takes up to a second."""
    known, sources = None, Expressions([expression]).sources
    if cache is not None:
        known = cache / f"fits-{_identity(sources, hyperscan.HS_MODE_BLOCK)}"
        if (kept := caching.read(known)) is not None:
            return kept == b"yes"
    try:
        _compiled(sources, hyperscan.HS_MODE_BLOCK)
        answer = True
    except hyperscan.HyperscanError:
        answer = False
    if known is not None:
        caching.write(known, b"yes" if answer else b"no")
    return answer


def probe(bodies: Sequence[str], utf8: bool, cache: Path | None) -> hyperscan.Database:
    """A database that tells of each expression whether it occurs, and not where; see `detectors.probe`."""
    flags = hyperscan.HS_FLAG_SINGLEMATCH | (hyperscan.HS_FLAG_UTF8 if utf8 else 0)
    sources = [(body, flags) for body in bodies]
    file = cache / f"probe-{_identity(sources, hyperscan.HS_MODE_BLOCK)}{_SUFFIX}" if cache is not None else None
    packed = caching.read(file) if file is not None else None
    if packed is not None and (loaded := _unpacked(packed, hyperscan.HS_MODE_BLOCK)) is not None:
        return loaded
    database = _compiled(sources, hyperscan.HS_MODE_BLOCK)
    if file is not None:
        caching.write(file, _packed(database))
    return database


@functools.cache
def platform() -> str:
    """Names the library and the instruction set that it compiles for: an image moved to an older CPU compiles anew."""
    return f"{hyperscan.__version__} {_info()}"  # type: ignore[attr-defined]


def _identity(sources: Sequence[tuple[str, int]], mode: int) -> str:
    state = hashlib.sha256(f"({platform()!r}, {mode!r}, [".encode())
    for number, source in enumerate(sources):  # one by one: ten thousand at once keep all threads waiting
        state.update(f"{', ' if number else ''}{source!r}".encode())
    state.update(b"])")
    return state.hexdigest()[:32]


def compile_ahead(blocks: Iterable[Expressions], flows: Iterable[Expressions], cache: Path | None) -> None:
    """Have those sets compiled that are not in the folder ``cache``, several at once. Who takes them afterwards, one by one,
    waits for none; what cannot be compiled is left to them, and its error. So is all where no folder can be written to."""
    if cache is None or not caching.writable(cache):
        return
    wanted = [(one, hyperscan.HS_MODE_BLOCK) for one in blocks] + [(one, hyperscan.HS_MODE_STREAM) for one in flows]
    missing = {file: (one, mode) for one, mode in wanted if one and not (file := one.file(mode, cache)).exists()}
    dearest_first = sorted(missing.items(), key=lambda each: -len(each[1][0]))
    with ThreadPoolExecutor(min(COMPILERS, len(os.sched_getaffinity(0)))) as pool:
        for file, (one, mode) in dearest_first:
            pool.submit(copy_context().run, kept, file, written, [mode, *one.sources], lambda _: True)


def _database(expressions: Sequence[Expression], mode: int, cache: Path | None, lasting: bool) -> hyperscan.Database:
    wanted = expressions if isinstance(expressions, Expressions) else Expressions(expressions)
    if cache is not None:
        file = wanted.file(mode, cache)
        plain = file.with_suffix("") if lasting else None
        take = functools.partial(_unpacked, mode=mode, plain=plain)
        loaded = (_mapped(plain, mode) if plain else None) or kept(file, written, [mode, *wanted.sources], take)
        if loaded is not None:
            return loaded
    return _compile(wanted, mode)


@functools.cache
def _info() -> str:
    probe = hyperscan.Database(mode=hyperscan.HS_MODE_BLOCK)
    probe.compile(expressions=[b"probe"], ids=[0], flags=[0])
    return repr(probe.info())


def _compile(expressions: Expressions, mode: int) -> hyperscan.Database:
    try:
        return _compiled(expressions.sources, mode)
    except hyperscan.HyperscanError as error:
        whole = str(error)
    # Hyperscan's error for a whole set does not say which expression it means.
    for one in expressions:
        try:
            _compiled(Expressions([one]).sources, mode)
        except hyperscan.HyperscanError as error:
            raise PatternError(f"{one.owner}: body: Hyperscan cannot take it: {error}") from None
    raise PatternError(f"the patterns do not compile together: {whole}")


def _compiled(sources: Sequence[tuple[str, int]], mode: int) -> hyperscan.Database:
    database = hyperscan.Database(mode=mode)
    database.compile(
        expressions=[body.encode() for body, _ in sources],
        ids=list(range(len(sources))),
        elements=len(sources),
        flags=[flags for _, flags in sources],
    )
    return database


def written(given: Sequence[Any]) -> bytes:
    """A set as the cache keeps it, of its mode, followed by its sources; for `detectors.aside`.

    Raises:
        hyperscan.HyperscanError: it cannot be compiled.
    """
    mode, *sources = given
    return _packed(_compiled(sources, mode))


def _packed(database: hyperscan.Database) -> bytes:
    return zlib.compress(hyperscan.dumpb(database))


def _unpacked(packed: bytes, mode: int, plain: Path | None = None) -> hyperscan.Database | None:
    try:
        data = zlib.decompress(packed)
    except zlib.error:
        return None  # damaged: compiling again mends it
    if plain is not None and len(data) >= mapped.LARGE:
        caching.write(plain, bytes(mapped.BEFORE) + data)
        if (database := _mapped(plain, mode)) is not None:
            return database
    return _loaded(data, mode)


def _mapped(plain: Path, mode: int) -> hyperscan.Database | None:
    """A set from the file that it was unpacked to, whose memory that file then is; None where it is not there or damaged."""
    with contextlib.suppress(OSError), plain.open("rb") as source:
        source.seek(mapped.BEFORE)
        data = source.read()
        if (database := _loaded(data, mode)) is not None:
            caching.used(plain)
            mapped.place(database, source.fileno(), data)
            return database
    return None


def _loaded(data: bytes, mode: int) -> hyperscan.Database | None:
    try:
        database = hyperscan.loadb(data, mode)
        database.scratch = hyperscan.Scratch(database)
    except hyperscan.HyperscanError:
        return None  # damaged, or of another machine: compiling again mends both
    return database
