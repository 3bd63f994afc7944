"""How long an expression may take Python's engine, found out before it acts, in a process that can be ended.

Hyperscan needs the same time for any expression. Python's engine, which finds where a match starts, may need more than anybody
has, for a text of fifty characters, and while it works no other thread of its process does. So an expression that others wrote
(in a pack, on another replica) is first tried on texts that are written to take it long. What was tried is remembered in the
cache's folder: each is tried once on a machine, and starts wait for none of them.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import random
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from re import _parser  # type: ignore[attr-defined]
from typing import Any, Final

from detectors.aside import lower
from detectors.expressions import anchored
from patterns import cache as caching
from patterns.schema import MAX_REACH, Kind, Pattern

SEARCH_SECONDS: Final = 0.25
"""What one search may take of a processor: a pattern's share of a text (`lexical.LOOKING_SECONDS`), which nobody can take from
it once it searches. The slowest of those that ship takes a fifth of it."""

WRITTEN: Final = 40
"""Texts that are written for an expression; each draws anew which branches it takes and how often it repeats what."""

MOST_KEPT: Final = 100_000
"""Expressions remembered, of sixteen bytes each; beyond, those that are asked about are remembered alone."""

TOO_LONG: Final = (
    "body: there are texts for which it takes longer than anybody waits; write what it repeats so that a text can be read in"
    " one way only"
)

_log = logging.getLogger(__name__)


def dear(patterns: Iterable[Pattern], folder: Path | None, most: int) -> list[Pattern]:
    """Those of ``patterns`` for which there are texts that they take too long for.

    Args:
        folder: the cache's, where it is remembered what was tried; None to try all.
        most: so many are enough, and the rest is not tried: to find one takes a process of its own.
    """
    wanted: defaultdict[bytes, list[Pattern]] = defaultdict(list)
    for pattern in patterns:
        if pattern.kind in (Kind.REGEX, Kind.PII):
            wanted[_name(pattern)].append(pattern)
    if not wanted:
        return []
    file = folder / f"tried-{_IDENTITY}.set" if folder else None
    known = _read(file) if file else frozenset()
    left = [name for name in wanted if name not in known]
    if not left:
        return []
    found, good = _try({name: wanted[name][0] for name in left}, most)
    if file:
        kept = known.union(good)
        caching.write(file, b"".join(sorted(kept if len(kept) <= MOST_KEPT else kept & wanted.keys())))
    return [pattern for name in found for pattern in wanted[name]]


def _read(file: Path) -> frozenset[bytes]:
    data = caching.read(file) or b""
    return frozenset(data[at : at + 16] for at in range(0, len(data), 16))


def _name(pattern: Pattern) -> bytes:
    return hashlib.blake2b(f"{pattern.kind}\n{pattern.body}".encode(), digest_size=16).digest()


_IDENTITY: Final = hashlib.sha256(sys.version.encode() + Path(__file__).read_bytes()).hexdigest()[:32]


def _try(patterns: Mapping[bytes, Pattern], most: int) -> tuple[list[bytes], list[bytes]]:
    """Those that take too long, and those that do not; what is left was not tried, since that is enough, or it cannot be."""
    found: list[bytes] = []
    good: list[bytes] = []
    argv = [sys.executable, "-P", "-m", __name__, str(lower())]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    left = list(patterns)
    while left and len(found) < most:
        lines = "".join([json.dumps([patterns[name].body, patterns[name].kind]) + "\n" for name in left])
        try:
            done = subprocess.run(argv, input=lines.encode(), env=environment, capture_output=True, check=False)
        except OSError as error:
            _log.warning("expressions could not be tried: %s", error.strerror)
            break
        count = len(done.stdout)  # a mark for each that is through
        good += left[:count]
        ended, left = left[count : count + 1], left[count + 1 :]
        if ended and done.returncode == -signal.SIGVTALRM:
            found += ended
        elif ended:
            said = done.stderr.decode(errors="replace")[-200:].strip()
            _log.warning("%s: it could not be tried: %s", patterns[ended[0]].id, said)
    return found, good


def search(body: str, kind: Kind) -> None:
    """Try an expression on texts that are written for it. Where one takes too long, the system ends this process."""
    with _timed():
        expression, parsed = anchored(body, kind), _parser.parse(body)
    draw = random.Random(0)
    for _ in range(WRITTEN):
        with _timed():
            text = "".join(_written(parsed, draw))[:MAX_REACH]
        for tried in (text, text[:-1], text[:-1] + "\0"):
            with _timed():
                expression.search(tried)


class _timed:  # noqa: N801 - reads as the word that it is
    """No more than `SEARCH_SECONDS` of a processor's time."""

    def __enter__(self) -> None:
        signal.setitimer(signal.ITIMER_VIRTUAL, SEARCH_SECONDS)

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)


def written(body: str, draw: random.Random) -> str:
    """A text that an expression might match, as long as it gets, but for what it asks of places and of what it found before."""
    return "".join(_written(_parser.parse(body), draw))[:MAX_REACH]


def _written(parts: Any, draw: random.Random) -> Iterator[str]:
    for kind, what in parts:
        match str(kind):
            case "LITERAL":
                yield chr(what)
            case "IN":
                yield _member(what, draw)
            case "ANY" | "NOT_LITERAL":
                yield "a"
            case "BRANCH":
                yield from _written(draw.choice(what[1]), draw)
            case "SUBPATTERN" | "ATOMIC_GROUP":
                yield from _written(what[-1] if isinstance(what, tuple) else what, draw)
            case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
                least, most, inner = what
                once = "".join(_written(inner, draw))
                for _ in range(draw.choice((least, int(most), int(most)))):
                    yield once
            case _:
                pass


def _member(members: Any, draw: random.Random) -> str:
    """A character of a class, or one that it probably lacks where it is told what it lacks."""
    if str(members[0][0]) == "NEGATE":
        return draw.choice("a0 -")
    kind, what = draw.choice(members)
    if str(kind) == "LITERAL":
        return chr(what)
    if str(kind) == "RANGE":
        return chr(draw.choice(what))
    return {"CATEGORY_DIGIT": "0", "CATEGORY_SPACE": " "}.get(str(what), "a" if "WORD" in str(what) else "-")


def _main() -> None:
    os.nice(int(sys.argv[1]))
    for line in sys.stdin:
        body, kind = json.loads(line)
        search(body, Kind(kind))
        os.write(1, b".")


if __name__ == "__main__":
    _main()
