"""What a stream costs whose text was written to be dear: full of values, of what announces one, of beginnings without an end.

Each sent in events of a few characters, beside ordinary text sent the same way. `SHAPES` are the dearest of some thousand that
were tried: examples of the shipped patterns, whole and cut off, alone and mixed.
"""

from __future__ import annotations

import time
from typing import Final

from detectors.stream import TextStream
from detectors.streamrules import StreamRules

DELTA: Final = 4
"""Characters of an event: a token."""

LENGTH: Final = 12_000
ROUNDS: Final = 3

SHAPES: Final = {
    "digits": "1234567890",
    "cards": "4111 1111 1111 1111 ",
    "cards, spaces that do not break": "4111\u00a01111\u00a01111\u00a01111\u00a0",
    "digits of another script": "\uff11\uff12\uff13",
    "what announces a password": "password: ",
    "one word after the other that does": "password=",
    "passwords": "////////////////password: hunter2",
    "accounts": "DE89 3704 0044 0532 0130 00 ",
    "keys without an end": "-----BEGIN RSA PRIVATE KEY-----\n",
    "keys in JSON": "-----BEGIN PRIVATE KEY-----\\nifkaxuzDdVEUN0niOlHxuMbMvjfxWP00+Iu3ZfETzNoabHTPmwfAdLUey\\n",
    "tokens without an end": "eyJhbGciOiJIUzI1NiJ9.",
    "escaped letters": "\\u0041",
    "escaped lines": "\\n",
    "backslashes": "\\",
}


def ratios(rules: StreamRules, ordinary: str) -> dict[str, float]:
    """CPU-seconds a megabyte of ordinary text (``ordinary``, the first), and of each shape how many times as much."""
    base = _seconds(rules, ordinary[:LENGTH])
    found = {"ordinary_s_per_mb": round(base / LENGTH * 2**20, 2)}
    for name, unit in SHAPES.items():
        found[name] = round(_seconds(rules, (unit * LENGTH)[:LENGTH]) / base, 1)
    return found


def _seconds(rules: StreamRules, text: str) -> float:
    """The least of some walks: what else the machine does adds to the others."""
    best = float("inf")
    for _ in range(ROUNDS):
        stream = TextStream(rules, lambda match, value: "[gone]")
        began = time.thread_time()
        for at in range(0, len(text), DELTA):
            stream.feed(text[at : at + DELTA])
        best = min(best, time.thread_time() - began)
        stream.close()
    return best
