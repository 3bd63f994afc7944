"""Trials of expressions that somebody wrote or a feed brought, in a process of their own that can be ended.

Hyperscan needs the same time for any expression. Python's engine, which finds where a match starts, may need more than anybody
has, for a text of fifty characters, and while it works no other thread of its process does: one expression, only tried, would
end all that a worker does. So it is tried elsewhere first, on what is known and on texts written to take it long.
"""

from __future__ import annotations

import math
import os
import random
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from re import _parser  # type: ignore[attr-defined]
from typing import Any, Final

import msgspec

from detectors.aside import LOWEST
from detectors.expressions import anchored
from gateway.learning import trial
from gateway.learning.trial import Corpus
from gateway.learning.values import Trial
from patterns.schema import MAX_REACH, Kind, Pattern, PatternError

CPU_SECONDS: Final = 5
"""What a trial may take of a processor: one takes half a second."""

WRITTEN: Final = 40
"""Texts that are written for an expression; each draws anew which branches it takes and how often it repeats what."""


class Asked(msgspec.Struct):
    pattern: Pattern
    harmless: tuple[str, ...]


def lexical(pattern: Pattern, corpus: Corpus) -> Trial:
    """As `trial.lexical`, for a pattern of which nothing is known.

    Raises:
        PatternError: Hyperscan cannot take it, or there are texts that Python's engine takes too long for.
    """
    if pattern.kind is Kind.LITERAL:
        return trial.lexical(pattern, corpus)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-P", "-m", __name__], input=msgspec.json.encode(Asked(pattern, tuple(corpus.harmless))),
        env=environment, capture_output=True, check=False,
    )  # fmt: skip
    if done.returncode == REFUSED:
        raise PatternError(done.stdout.decode())
    if done.returncode > 0:
        raise PatternError(f"{pattern.id}: it could not be tried: {done.stderr.decode(errors='replace')[-200:].strip()}")
    if done.returncode:
        raise PatternError(f"{pattern.id}: body: there are texts for which it takes longer than anybody waits; write what it"
                           " repeats so that a text can be read in one way only")  # fmt: skip
    return msgspec.json.decode(done.stdout, type=Trial)


REFUSED: Final = 3
"""How the other process ends where the pattern is wrong in a way that can be told."""


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


def _rehearse(asked: Asked) -> Trial:
    expression = anchored(asked.pattern.body, asked.pattern.kind)
    draw = random.Random(0)
    for _ in range(WRITTEN):
        text = written(asked.pattern.body, draw)
        for tried in (text, text[:-1], text[:-1] + "\0"):
            expression.search(tried)
    return trial.lexical(asked.pattern, Corpus(asked.harmless, ()))


def _main() -> None:
    os.nice(LOWEST)
    ends = math.ceil(time.process_time()) + CPU_SECONDS
    resource.setrlimit(resource.RLIMIT_CPU, (ends, ends))
    asked = msgspec.json.decode(sys.stdin.buffer.read(), type=Asked)
    try:
        sys.stdout.buffer.write(msgspec.json.encode(_rehearse(asked)))
    except PatternError as error:
        sys.stdout.write(str(error))
        sys.stdout.flush()
        sys.exit(REFUSED)


if __name__ == "__main__":
    _main()
