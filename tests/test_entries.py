"""Entries: merging is a join of histories, signatures cover everything, and nothing broken is taken."""

from __future__ import annotations

from dataclasses import replace

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from patterns.clock import MAX_AHEAD_MS, Clock, FutureStamp, Stamp
from patterns.entries import (
    ALONE,
    MAX_ENTRY,
    MAX_WORDS,
    Entry,
    EntryError,
    Signer,
    Trust,
    decode,
    digest,
    encode,
    later,
    merge,
    signed_bytes,
    store_digest,
)
from patterns.schema import ORIGINS, Kind, Pattern, PatternError, Severity, read_pattern

BODIES = ("open the gate", "raise the portcullis", "lower the bridge")


def pattern(identity: str, body: str = BODIES[0]) -> Pattern:
    return Pattern(
        id=identity, kind=Kind.LITERAL, body=body, category="prompt_injection.instruction_override",
        severity=Severity.HIGH, reach=len(body), hits=(f"please {body} now",), misses=("nothing",),
        origins=frozenset({"user", "document"}),
    )  # fmt: skip


stamps = st.builds(Stamp, st.integers(1, 4), st.integers(0, 2), st.sampled_from(("a", "b", "c")), st.integers(0, 2))


@st.composite
def entries(draw: st.DrawFn) -> Entry:
    identity = draw(st.sampled_from(("one", "two", "three")))
    body = draw(st.sampled_from((*BODIES, "")))
    return Entry(
        id=identity, pattern=pattern(identity, body) if body else None, stamp=draw(stamps), author="ada", reason="why"
    )


histories = st.lists(entries(), max_size=8)


def merged(*parts: list[Entry]) -> dict[str, Entry]:
    store: dict[str, Entry] = {}
    for part in parts:
        store |= merge(store, part)
    return store


@given(histories, histories, histories)
def test_replicas_that_saw_the_same_agree_in_any_order(a: list[Entry], b: list[Entry], c: list[Entry]) -> None:
    whole = merged(a, b, c)
    assert merged(c, b, a) == whole
    assert merged(b, list(merged(a, c).values())) == whole
    assert merge(whole, [*a, *b, *c]) == {}
    assert store_digest(whole.values()) == store_digest(reversed(list(whole.values())))


@given(entries(), entries())
def test_which_entry_stands_does_not_depend_on_who_asks(one: Entry, other: Entry) -> None:
    other = replace(other, id=one.id, pattern=other.pattern and replace(other.pattern, id=one.id))
    assert later(one, other) == later(other, one)
    assert later(one, other).stamp == max(one.stamp, other.stamp)


@given(entries())
def test_an_entry_survives_its_encoding(entry: Entry) -> None:
    signed = Signer(Ed25519PrivateKey.generate()).sign(entry)
    assert decode(encode(signed)) == signed
    assert digest(decode(encode(signed))) == digest(signed)


@given(entries(), st.binary(max_size=64), st.sampled_from(('"signature":"%s",', '","signature":"%s","', "plain %s")))
def test_what_is_signed_is_all_but_the_signature(entry: Entry, signature: bytes, author: str) -> None:
    signed = replace(entry, signature=signature, author=author % signature.hex())
    plain = orjson.loads(encode(signed))
    del plain["signature"]
    assert signed_bytes(signed) == b"portcullis entry v1\n" + orjson.dumps(plain, option=orjson.OPT_SORT_KEYS)


def test_many_are_verified_as_one_is() -> None:
    key = Ed25519PrivateKey.generate()
    good, stranger = Signer(key), Signer(Ed25519PrivateKey.generate())
    many = [
        (stranger if number % 50 == 7 else good).sign(
            Entry(id=f"p{number}", pattern=None, stamp=Stamp(1, 0, "a"), author="ada", reason="seen")
        )
        for number in range(3 * ALONE + 5)
    ]
    refusals = Trust([key.public_key()]).refusals(many)
    assert [number for number, why in enumerate(refusals) if why] == [7, 57, 107, 157]
    assert "p57: signer:" in refusals[57]


def test_a_signature_covers_everything() -> None:
    key = Ed25519PrivateKey.generate()
    signer, trust = Signer(key), Trust([key.public_key()])
    entry = signer.sign(Entry(id="one", pattern=pattern("one"), stamp=Stamp(1, 0, "a"), author="ada", reason="seen"))
    trust.verify(entry)
    changes = (
        {"pattern": pattern("one", BODIES[1])}, {"pattern": None}, {"stamp": Stamp(2, 0, "a")}, {"stamp": Stamp(1, 0, "a", 1)}, {"author": "eve"},
        {"reason": "other"}, {"parent": "00"}, {"signature": bytes(64)}, {"signature": b""}, {"id": "two"},
    )  # fmt: skip
    for change in changes:
        with pytest.raises(EntryError, match="signature"):
            trust.verify(replace(entry, **change))


def test_only_trusted_keys_count() -> None:
    entry = Entry(id="one", pattern=None, stamp=Stamp(1, 0, "a"), author="ada", reason="seen")
    trust = Trust([Ed25519PrivateKey.generate().public_key()])
    with pytest.raises(EntryError, match="one: signer: unsigned"):
        trust.verify(entry)
    with pytest.raises(EntryError, match="not trusted"):
        trust.verify(Signer(Ed25519PrivateKey.generate()).sign(entry))


GOOD = {
    "id": "one", "pattern": None, "stamp": [1, 0, "a"], "author": "ada", "reason": "r", "parent": "", "signer": "",
    "signature": "",
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"id": 7}, "id: wanted a text"),
        ({"author": "x" * 501}, "author: wanted a text of at most 500"),
        ({"extra": 1}, "wanted a mapping with exactly"),
        ({"stamp": [1, 0]}, "stamp: wanted"),
        ({"stamp": [True, 0, "a"]}, "stamp: wanted"),
        ({"stamp": [1, 2**31, "a"]}, "stamp: wanted"),
        ({"stamp": [-1, 0, "a"]}, "stamp: wanted"),
        ({"stamp": [1, 0, ""]}, "stamp: wanted"),
        ({"stamp": [1, 0, "a", 0]}, "stamp: wanted"),
        ({"stamp": [1, 0, "a", True]}, "stamp: wanted"),
        ({"stamp": [1, 0, "a", 2**31]}, "stamp: wanted"),
        ({"stamp": [1, 0, "a", 1, 1]}, "stamp: wanted"),
        ({"signature": "xy"}, "signature: wanted hexadecimal"),
        ({"signature": None}, "signature: wanted hexadecimal"),
        ({"pattern": []}, "pattern: got list"),
        ({"pattern": {"id": "one"}}, "one: kind"),
        ({"pattern": {**orjson.loads(encode(Entry(
            id="two", pattern=pattern("two"), stamp=Stamp(1, 0, "a"), author="a", reason="r")))["pattern"]}},
         "not the id of its pattern"),
    ],
)  # fmt: skip
def test_a_broken_entry_is_refused_by_field(change: dict[str, object], says: str) -> None:
    with pytest.raises(EntryError, match=says):
        decode(orjson.dumps({**GOOD, **change}))


@given(st.binary(max_size=200))
def test_garbage_is_an_error_and_never_a_crash(raw: bytes) -> None:
    with pytest.raises(EntryError):
        decode(raw)


def test_every_pattern_that_is_taken_fits_into_an_entry() -> None:
    raw = {"id": "x" * 200, "kind": "literal", "body": "\x01" * 4_000, "category": "jailbreak.persona", "severity": "high",
           "origins": sorted(ORIGINS), "provenance": "\x01" * 500, "misses": ["x"]}  # fmt: skip
    pattern = read_pattern({**raw, "hits": ["\x01" * 7_000] * 5}, "test")
    entry = Entry(id=pattern.id, pattern=pattern, stamp=Stamp(1, 0, "n" * MAX_WORDS), author="\x01" * MAX_WORDS,
                  reason="\x01" * MAX_WORDS, parent="0" * 64)  # fmt: skip
    assert 230_000 < len(encode(entry)) <= MAX_ENTRY
    assert decode(encode(entry)).pattern == pattern
    with pytest.raises(PatternError, match=r"hits and misses: .* bytes with the body; at most 240000 are taken"):
        read_pattern({**raw, "hits": ["\x01" * 8_000] * 5}, "test")


def test_an_oversized_entry_is_refused_unread() -> None:
    with pytest.raises(EntryError, match="bytes; at most"):
        decode(b" " * 300_000)


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 2e9), stamps), max_size=30))
def test_a_clock_never_runs_backwards(steps: list[tuple[bool, float, Stamp]]) -> None:
    clock, last = Clock("a"), Stamp(0, 0, "")
    for foreign, now, stamp in steps:
        if foreign:
            try:
                clock.observe(stamp, now)
            except FutureStamp:
                continue
            last = max(last, Stamp(stamp.wall_ms, stamp.counter, "a"))
        else:
            made = clock.tick(now)
            assert made > last
            last = made


def test_a_stamp_from_the_future_is_refused() -> None:
    clock = Clock("a")
    with pytest.raises(FutureStamp):
        clock.observe(Stamp(1_000_000 + MAX_AHEAD_MS + 1, 0, "b"), 1_000.0)
    assert clock.tick(1_000.0) == Stamp(1_000_000, 0, "a")
