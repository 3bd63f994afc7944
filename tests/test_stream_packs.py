"""The shipped patterns in streams: nothing of a value goes out, and ordinary text hardly waits."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

import pytest
from gateways import CACHE_DIR

from detectors.lexical import Lexical
from detectors.stream import TextStream
from detectors.streamrules import Act, StreamRules, prepare
from detectors.values import ChannelKind, Origin
from gateway import live
from gateway.screening.policy import preset
from patterns.schema import Pattern, State

BEFORE = "Here is what you asked for, as far as I can tell: "
AFTER = " and that is all. Let me know when you want to go on with the rest of it, and I shall be glad to help you with that."

ORDINARY = """
The harbour was quiet when we arrived, and the only sound came from a rope that slapped against a mast. I asked the old man
at the kiosk whether the ferry still ran on Sundays. He said that it did, but only until four o'clock, and that we should
buy our tickets before lunch because the girl who sells them goes home early. "It's a small place," he added, "and nobody's
in a hurry here." So we sat down on the wall, ate the bread we had brought, and watched the gulls fight over a fish.

To answer your question about the report: the team finished the first draft last week. It covers three areas, namely the
budget for 2025, the hiring plan, and the open risks. Sales grew by 12 % in the second quarter, which is more than we'd
expected; costs rose as well, though not as fast. In my view the most important point is the new policy on data: every
request for access has to name a reason, and a manager signs it off within two days. Please send me your comments by Friday,
or call me if you'd rather talk. A shorter version for the board will follow in March.

Here's how you can bake a simple loaf. First, mix 500 g of flour with a little salt and a spoonful of yeast. Then add warm
water, about 350 ml, and knead the dough for ten minutes until it is smooth. Cover it and let it rise for an hour; it should
double in size. Shape it, put it into a tin and bake it at 220 degrees for half an hour. You will know that it is done when
it sounds hollow as you tap the bottom. It keeps for two or three days in a bag, and it makes very good toast after that.

In Python, a list comprehension is a short way to build a list from another sequence. You write an expression, then a for
clause, and, if you like, an if clause at the end. It is often easier to read than a loop with append, but once it grows past
one line you should use the loop. The same idea exists for sets and for dictionaries. If you only need to walk over the
result once, use a generator instead: it computes one item at a time and so it needs hardly any memory.
""".strip()


@pytest.fixture(scope="module")
def shipped() -> list[Pattern]:
    return [pattern for pattern in live.load_patterns((), CACHE_DIR) if pattern.state is State.ACTIVE]


@pytest.fixture(scope="module")
def rules(shipped: list[Pattern]) -> StreamRules:
    return live.stream_rules(shipped, preset("balanced"), CACHE_DIR)[ChannelKind.TOOL_CALL]  # all that act anywhere


@pytest.fixture(scope="module")
def oracle(shipped: list[Pattern]) -> Lexical:
    """The same patterns over a whole text, in Hyperscan's block mode."""
    return Lexical(shipped, CACHE_DIR)


Outcome = tuple[str, list[tuple[str, int, int]], tuple[str, int] | None]


def _run(rules: StreamRules, pieces: Sequence[str]) -> Outcome:
    stream = TextStream(rules, lambda match, value: "\0")
    out, found = "", []
    for piece in (*pieces, None):
        released = stream.finish() if piece is None else stream.feed(piece)
        out += released.text
        found += [(match.pattern.id, match.start, match.end) for act, match in released.found if act is Act.REPLACE]
        if released.cut is not None:
            stream.close()
            return out, [], (released.cut.pattern.id, released.cut.start)
    return out, sorted(found), None


def _cut(text: str, marks: random.Random) -> list[str]:
    at = sorted({marks.randrange(len(text)) for _ in range(marks.choice((1, 3, 12, 60)))})
    return [text[a:b] for a, b in zip([0, *at], [*at, len(text)], strict=True)]


def test_every_acting_pattern_can_be_followed(rules: StreamRules) -> None:
    assert rules.late == []


def test_every_hit_streams_as_it_is_scanned(rules: StreamRules, oracle: Lexical) -> None:
    """Each example of each acting pattern: cut anywhere as one at a time, and nothing that the block scan marks goes out."""
    marks = random.Random(4)
    acts = {rule.pattern.id: act for rule, act in zip(rules.rules, rules.acts, strict=True)}
    seen = 0
    for rule in rules.rules:
        for hit in rule.pattern.hits:
            text = BEFORE + hit + AFTER
            whole = _run(rules, [text])
            for pieces in (list(text), _cut(text, marks)):
                assert _run(rules, pieces) == whole, (rule.pattern.id, hit)
            out, found, cut = whole
            scanned = oracle.scan(text, Origin.ASSISTANT).matches
            if cut is not None:
                assert acts[cut[0]] is Act.CUT
                assert out.startswith(BEFORE[:-1])
                assert hit not in out
                continue
            marked = sorted((one.pattern.id, one.start, one.end) for one in scanned if acts.get(one.pattern.id) is Act.REPLACE)
            assert found == marked, (rule.pattern.id, hit)
            covered = {at for _, start, end in found for at in range(start, end)}
            assert out.replace("\0", "") == "".join(char for at, char in enumerate(text) if at not in covered)
            seen += bool(found)
    assert seen > 500


def test_what_is_silent_as_a_whole_goes_out_as_it_is(rules: StreamRules) -> None:
    """Names in frames are not followed as texts where that is so, and of those in which something stands it never is."""
    told, marks = 0, random.Random(5)
    hits = [hit for rule in rules.rules for hit in rule.pattern.hits if hit.isascii() and "\\" not in hit]
    for hit in hits:
        for text in (hit, f"id-{hit}", hit[: marks.randrange(len(hit) + 1)], hit.swapcase()):
            said, found, cut = _run(rules, [text])
            if rules.silent(text):
                assert (said, found, cut) == (text, [], None), text
            told += bool(found or cut)
    assert told > len(hits) / 2
    assert rules.silent("chatcmpl-CaZ4Wl2v7YbPq9"), "an id"


def test_no_stream_waits_for_an_expression(rules: StreamRules, shipped: list[Pattern], monkeypatch: pytest.MonkeyPatch) -> None:
    """What was prepared is what would be made at first use, and nothing is left to be made then."""
    expected = {hit: _run(rules, [hit[:-1], hit[-1]]) for rule in rules.rules for hit in rule.pattern.hits[:2]}
    fresh = live.stream_rules(shipped, preset("balanced"), CACHE_DIR)[ChannelKind.TOOL_CALL]
    prepare([fresh], CACHE_DIR)

    def refused(*_: object) -> None:
        raise AssertionError("compiled in a stream")

    monkeypatch.setattr(re, "compile", refused)
    assert {hit: _run(fresh, [hit[:-1], hit[-1]]) for hit in expected} == expected
    prepare([fresh], None)  # nothing is left to do


def test_ordinary_text_hardly_waits(rules: StreamRules) -> None:
    """The promise of docs/streams.md, on text of our own; `python -m bench stream` measures it on more."""
    stream = TextStream(rules, lambda match, value: "\0")
    held = []
    for word in re.findall(r"\s*\S+", ORDINARY):
        stream.feed(word)
        held.append(stream.held)
    stream.close()
    held.sort()
    assert sum(one == 0 for one in held) >= 0.95 * len(held)
    assert held[len(held) // 2] == 0
    assert held[len(held) * 99 // 100] <= 24
