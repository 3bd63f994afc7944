"""A few thousand made-up secrets and personal values, streamed under random cuts: not a byte of what is redacted goes out.

Values are made from the packs' own examples: every letter and digit of the value is drawn anew within its kind, and what the
pattern and its check (a checksum, an entropy) still take for real is kept. So each pattern that redacts a stream has its share.
"""

from __future__ import annotations

import random
import string
from collections.abc import Iterator

from test_stream_packs import AFTER, BEFORE, _cut, _run, oracle, rules, shipped

from detectors.lexical import Lexical
from detectors.streamrules import Act, StreamRules
from detectors.values import Origin

__all__ = ["oracle", "rules", "shipped"]  # fixtures

EACH = 10
TRIES = 200  # one random number in 97 is an IBAN
KINDS = (string.digits, string.ascii_lowercase, string.ascii_uppercase)
HEX = set(string.hexdigits)


def _drawn(value: str, pick: random.Random) -> str:
    """Another value of the same shape; hexadecimal stays hexadecimal."""
    letters = {char for char in value if char.isalpha()}
    low, up = ("abcdef", "ABCDEF") if letters <= HEX else KINDS[1:]
    draw = {**dict.fromkeys(KINDS[0], KINDS[0]), **dict.fromkeys(KINDS[1], low), **dict.fromkeys(KINDS[2], up)}
    keep = pick.randrange(4)  # its beginning often says what it is
    return "".join(pick.choice(draw[char]) if at >= 4 * keep and char in draw else char for at, char in enumerate(value))


def _values(pattern: str, hits: tuple[str, ...], oracle: Lexical, pick: random.Random) -> Iterator[str]:
    """Hits with a new value, which the whole text is redacted for."""
    made: set[str] = set()
    for attempt in range(TRIES):
        hit = hits[attempt % len(hits)]
        span = next((one for one in oracle.scan(hit, Origin.ASSISTANT).matches if one.pattern.id == pattern), None)
        if span is None:
            continue
        text = hit[: span.start] + _drawn(hit[span.start : span.end], pick) + hit[span.end :]
        if text not in made and any(one.pattern.id == pattern for one in oracle.scan(text, Origin.ASSISTANT).matches):
            made.add(text)
            yield text
            if len(made) == EACH:
                return


def test_not_a_byte_of_a_value_goes_out(rules: StreamRules, oracle: Lexical) -> None:
    pick = random.Random(19)
    streamed = 0
    for rule, act in zip(rules.rules, rules.acts, strict=True):
        if act is not Act.REPLACE:
            continue
        for value in _values(rule.pattern.id, rule.pattern.hits, oracle, pick):
            text = BEFORE + value + AFTER
            marked = {
                (one.start, one.end) for one in oracle.scan(text, Origin.ASSISTANT).matches if one.pattern.id == rule.pattern.id
            }
            out, found, cut = _run(rules, _cut(text, pick))
            if cut is not None or not marked:  # what stands around it says that it is none
                continue
            assert marked <= {(start, end) for name, start, end in found if name == rule.pattern.id}, (rule.pattern.id, value)
            kept, at = "", 0
            for _, start, end in sorted(found, key=lambda one: (one[1], -one[2])):
                if start >= at:
                    kept += text[at:start] + "\0"
                at = max(at, end)
            assert out == kept + text[at:], (rule.pattern.id, value)
            streamed += 1
    assert streamed > 2_000
