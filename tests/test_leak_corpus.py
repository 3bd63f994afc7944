"""A few thousand made-up secrets and personal values, streamed under random cuts: not a byte of what is redacted goes out.

Values are made from the packs' own examples: every letter and digit of the value is drawn anew within its kind, and what the
pattern and its check (a checksum, an entropy) still take for real is kept. So each pattern that redacts a stream has its share.
"""

from __future__ import annotations

import random
import re
import string
from collections.abc import Iterator

from test_stream_packs import AFTER, BEFORE, _cut, _run, oracle, rules, shipped

from detectors.lexical import Lexical
from detectors.streamrules import Act, StreamRules
from detectors.values import Origin
from patterns.schema import Pattern

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
    share = pick.choice((1.0, 0.5, 0.1))  # and so may a mark in its middle
    return "".join(
        pick.choice(draw[char]) if at >= 4 * keep and char in draw and pick.random() < share else char
        for at, char in enumerate(value)
    )


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


NO_BEGINNING = {
    "secret.airtable_token", "secret.azure_client_secret", "secret.azure_cognitive_key", "secret.azure_devops_token",
    "secret.azure_search_key", "secret.mailchimp_key", "secret.mailgun_key", "secret.maxmind_key",
    "secret.new_relic_license_key", "secret.terraform_cloud_token",
}  # fmt: skip
"""Keys that begin like any word: docs/streams.md says what of them may go out."""


def test_what_goes_out_before_a_secret_is_no_part_of_it(
    rules: StreamRules, oracle: Lexical, shipped: list[Pattern]
) -> None:
    """What stands before the value and is joined to it is the same in each key of its kind, for every kind that is shipped."""
    pick = random.Random(23)
    kinds: set[str] = set()
    told: dict[str, int] = {}
    for rule, act in zip(rules.rules, rules.acts, strict=True):
        if act is not Act.REPLACE or not rule.pattern.category.startswith("secret."):
            continue
        kinds.add(rule.pattern.category)
        for text in _values(rule.pattern.id, rule.pattern.hits, oracle, pick):
            span = next(one for one in oracle.scan(text, Origin.ASSISTANT).matches if one.pattern.id == rule.pattern.id)
            own = re.search(r"[A-Za-z0-9_~.-]*\Z", text[: span.start])
            # A check may see the value end before the match does.
            begin = next(found for end in range(span.end, len(text) + 1) if (found := rule.place(text, end)) is not None)
            assert own is not None
            before = range(max(own.start(), begin[0]), span.start)
            free = [at for at in before if _may_be_another(text, at, rule.pattern.id, oracle)]
            told[rule.pattern.id] = max(told.get(rule.pattern.id, 0), span.start - free[0] if free else 0)
    assert kinds == {one.category for one in shipped if one.category.startswith("secret.") and one.kind.lexical}
    assert {name: most for name, most in told.items() if most and name not in NO_BEGINNING} == {}
    assert {name for name in NO_BEGINNING if not told[name]} == set()
    assert max(told.values()) <= 7


def _may_be_another(text: str, at: int, pattern: str, oracle: Lexical) -> bool:
    """Whether the key would be one with another letter or digit of the same kind at a place."""
    kind = next((kind for kind in (string.digits, "abcdef", "ABCDEF", *KINDS) if text[at] in kind), "")
    others = [text[:at] + char + text[at + 1 :] for char in kind if char != text[at]]
    return sum(any(one.pattern.id == pattern for one in oracle.scan(other, Origin.ASSISTANT).matches) for other in others) > 2
