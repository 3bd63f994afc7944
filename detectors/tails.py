"""What the automata are given of an expression: its tail, where what comes before that would keep them busy.

An expression that begins with anybody's words ("give me ... the system prompt"), or with any letters before an "@", has an
automaton at work over most of a text; a few dozen of them cost more than all others together. Wherever the whole expression
ends a match, so does its tail, and Python's engine, which finds where a match starts, reads the whole. So nothing is lost by
looking for the tail. Which expressions gain by it was measured (``python -m bench tails``).
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

import orjson

FILE: Final = Path(__file__).parent / "data" / "tails.json"
"""By pattern: the digest of the expression that was measured, and its tail."""

_TAILS: Final[dict[str, tuple[str, str]]] = {name: (of, tail) for name, (of, tail) in orjson.loads(FILE.read_bytes()).items()}


def digest(body: str) -> str:
    """By which an expression is known: another one under the same name has no tail."""
    return hashlib.blake2b(body.encode(), digest_size=8).hexdigest()


def tail(name: str, body: str) -> str:
    """What is to be looked for instead of a pattern's ``body``: a part at its end, or all of it."""
    known = _TAILS.get(name)
    return known[1] if known is not None and known[0] == digest(body) else body
