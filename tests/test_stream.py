"""Streams: however a text is cut, the same is released, replaced and reported."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import partial

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from detectors.lexical import Lexical, Match
from detectors.stream import MAX_HOLD, TextStream
from detectors.streamrules import LEAD, Act, StreamRules
from detectors.values import Origin
from patterns.schema import Pattern, read_pattern


def _pattern(name: str, body: str, kind: str = "pii", category: str = "pii.payment", **more: str) -> Pattern:
    raw = {"id": name, "kind": kind, "body": body, "category": category, "severity": "high", "hits": ["x"], "misses": ["y"]}
    return read_pattern({**raw, **more}, "test")


PATTERNS = [
    _pattern("key", r"\bAKIA[0-9A-Z]{16}\b", category="secret.cloud_key"),
    _pattern("digits", r"\b(?:\d[ -]?){12,18}\d\b"),
    _pattern("mail", r"\b[A-Za-z0-9._%+-]{1,30}@(?:[a-z]{1,10}\.){1,3}[a-z]{2,5}\b", category="pii.contact_email"),
    _pattern("order", r"ignore\s{1,4}(?:all\s{1,4}){0,1}previous", "regex", "prompt_injection.task_hijack"),
    _pattern("shell", r"\brm\s{1,3}-rf\s{1,3}/", "regex", "harmful_code.destructive_command"),
    _pattern("hex", r"[a-f0-9]{12}", category="secret.web_token"),
    _pattern("word", "tangerine", "literal", "pii.name"),
    _pattern("announced", r"\bcode[: ]{1,3}([a-z0-9]{3,6})\b"),
    _pattern("either", r"(?:pin|no)[ .]{0,3}(\d{4})|\bpin(?:-x){2,3}", category="pii.name"),
]
ACTS = {"order": None, "shell": Act.CUT}
RULES = StreamRules(PATTERNS, lambda pattern: ACTS.get(pattern.id, Act.REPLACE))
LEXICAL = Lexical([pattern for pattern in PATTERNS if pattern.id != "order"])
# As in the balanced preset: what any word may be the beginning of is only reported, and nothing waits for it.
BALANCED = StreamRules(PATTERNS, lambda pattern: {**ACTS, "mail": None, "word": None, "hex": None}.get(pattern.id, Act.REPLACE))

ATOMS = (
    "AKIA", "ABCDEFGH12345678", " ", "4111 1111 ", "1111 1111", "1111-", "a@b.co", "m.au", "joe.x@", "ignore ", "all ",
    "previous", " rm -", "rf /", " abc def0123456789ab ", "é", "漢字", "😀", "the quick brown fox ", "12345678901234567890",
    "\n", "x" * 70, ".", "@", "tanger", "ine", "TANGERINE", "code", ": ", "code: a1b2", "pin 12", "34", "pin", "-x-x", "no.", "code code ",
)  # fmt: skip
TAGGED = "".join(chr(0xE0000 + ord(char)) for char in "AKIAABCDEFGH12345678")
DISGUISED = (TAGGED[:6], TAGGED[6:], "\u200b", "４１１１ ", "\u2011", "1111\u20111111", "A\u200bKIA", "\u00a0", "tan\u200dgerine", "\ufeff")

END = "the end"
Outcome = tuple[str, tuple[tuple[str, int, int], ...], tuple[str, int] | None]


def _run(pieces: Sequence[str | None]) -> Outcome:
    """``None`` stands for an edge."""
    stream = TextStream(RULES, lambda match, value: f"<{match.pattern.id}:{len(value)}>")
    text = ""
    found: list[Match] = []
    try:
        for piece in (*pieces, END):
            if piece is None:
                stream.edge()
                released = stream.settled()
            else:
                released = stream.finish() if piece is END else stream.feed(piece)
            text += released.text
            found += [match for _, match in released.found]
            if released.cut is not None:
                return text, (), (released.cut.pattern.id, released.cut.start)
    finally:
        stream.close()
    return text, tuple(sorted((match.pattern.id, match.start, match.end) for match in found)), None


def _cut(text: str, cuts: Sequence[int]) -> list[str]:
    marks = sorted({min(cut, len(text)) for cut in cuts})
    return [text[a:b] for a, b in zip([0, *marks], [*marks, len(text)], strict=True)]


texts = st.lists(st.sampled_from(ATOMS), max_size=14).map("".join)
disguised = st.lists(st.sampled_from(ATOMS + DISGUISED), max_size=14).map("".join)
cuts = st.lists(st.integers(0, 400), max_size=14)


def _parts(parts: Sequence[Sequence[str]]) -> tuple[list[str], bool]:
    """What goes out of texts that follow each other with something else between, and whether it was cut."""
    stream = TextStream(RULES, lambda match, value: f"<{match.pattern.id}:{len(value)}>")
    out: list[str] = [""]
    for at, part in enumerate(parts):
        steps = [partial(stream.feed, piece) for piece in part]
        for step in (*steps, stream.finish if at == len(parts) - 1 else stream.let_go):
            released = step()
            out[-1] += released.text
            if released.cut is not None:
                stream.close()
                return out, True
        assert not stream.held
        out.append("")
    return out[:-1], False


@settings(max_examples=400, deadline=None)
@given(st.lists(st.tuples(disguised, cuts), min_size=1, max_size=4))
@example([("it is AKIAABC", []), ("DEFGH12345678 so", [3])])
@example([("it is AKIA", []), ("ABCDEFGH", []), ("12345678", [])])
@example([("x AKIAA", []), ("BCDEFGH123", []), ("45", []), ("67", []), ("8 ", []), ("so", [])])
@example([("x", []), ("AKIAABCDEFGH12345678", [])])
@example([("AKIAABCDEFGH12345678", []), ("x", [])])
@example([("4111 1111 1111 1111", [7]), ("22", [])])
@example([("tan\u200dgerine4111 1111 4111 1111 ", [])])
def test_of_a_value_that_goes_on_behind_something_else_the_rest_does_not_go_out(parts: list[tuple[str, list[int]]]) -> None:
    out, cut = _parts([_cut(text, where) for text, where in parts])
    whole, _ = _parts([[text] for text, _ in parts])
    for read in (*out, "".join(out), *whole, "".join(whole)):
        read = re.sub(r"<\w+:\d+>", "xx", read)  # what was replaced was no end of a word where it stood before one
        assert not any(one.pattern.id in ("key", "digits", "word", "shell") for one in LEXICAL.scan(read, Origin.ASSISTANT).matches)
    if len(parts) == 1:
        assert (out[0], cut) == (_run([parts[0][0]])[0], _run([parts[0][0]])[2] is not None)


@settings(max_examples=400, deadline=None)
@given(texts, cuts)
def test_any_cut_gives_the_same(text: str, where: list[int]) -> None:
    assert _run(_cut(text, where)) == _run([text])


@settings(max_examples=150, deadline=None)
@given(disguised, cuts)
def test_any_cut_of_disguised_text_gives_the_same(text: str, where: list[int]) -> None:
    assert _run(_cut(text, where)) == _run([text])


@settings(max_examples=100, deadline=None)
@given(disguised)
@example("tan\u200dgerine" + "x" * 140 + "\u200b")  # read folded twice: what was found the first time is not told again
def test_one_character_at_a_time_gives_the_same(text: str) -> None:
    assert _run(list(text)) == _run([text])


@settings(max_examples=200, deadline=None)
@given(texts)
def test_it_finds_what_a_scan_of_the_whole_text_finds(text: str) -> None:
    _released, found, cut = _run([text])
    whole = sorted((match.pattern.id, match.start, match.end) for match in LEXICAL.scan(text, Origin.ASSISTANT).matches)
    if cut is None:
        assert list(found) == whole
    else:
        assert any(name == cut[0] and start <= cut[1] <= start + 2 * LEAD for name, start, _ in whole)


@settings(max_examples=200, deadline=None)
@given(disguised, cuts)
def test_nothing_of_a_replaced_value_is_ever_released(text: str, where: list[int]) -> None:
    """What comes out, with stand-ins taken away, is the text with exactly the marked spans taken away."""
    released, found, cut = _run(_cut(text, where))
    spans = [(start, end) for name, start, end in found if name != "shell"]
    kept = [char for at, char in enumerate(text) if not any(start <= at < end for start, end in spans)]
    if cut is None:
        import re

        assert re.sub(r"<[a-z]+:\d+>", "", released) == "".join(kept)
    else:
        assert "rm -rf /" not in released


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from((*ATOMS, '"', "\\n", "\\u0041", "\\u004", "\\\\", "\\ud83d\\ude00", "\\u0031111", "\\\\u200b",
                                 "\\\\\\\\u200b", "\u200b")),
                max_size=12).map("".join), cuts)  # fmt: skip
def test_any_cut_of_escaped_json_gives_the_same(text: str, where: list[int]) -> None:
    assert _run(_cut(text, where)) == _run([text])


several = st.lists(st.lists(st.sampled_from((*ATOMS, *DISGUISED, "\\u0041", "\\n")), max_size=4).map("".join), min_size=1, max_size=5)


@settings(max_examples=300, deadline=None)
@given(several, cuts)
@example([" so", "AKIAABCDEFGH12345678"], [])
@example(["AKIAABCDEFGH12345678", "so"], [])
@example(["AKIAABCDEFGH12345678", "", "so"], [])
@example(["so", "AKIAABCDEFGH12345678", "so"], [3])
@example(["code: ", "a1b2 "], [])
@example(["1111 1111 1111 1111", "AKIAABCDEFGH12345678\\n", "4\\u0031"], [20])
def test_texts_with_edges_between_them_are_read_apart_and_as_one(said: list[str], where: list[int]) -> None:
    pieces: list[str | None] = []
    at = 0
    for text in said:
        inside = [mark - at for mark in where if at <= mark < at + len(text)]
        pieces += [*_cut(text, inside), None]
        at += len(text)
    got = _run(pieces[:-1])
    assert got == _run([each for text in said for each in (text, None)][:-1])
    _, found, cut = got
    alone, at = [(0, _run(["".join(said)]))], 0
    for text in said:
        alone.append((at, _run([text])))
        at += len(text)
    if cut is None:
        assert all(one[2] is None for _, one in alone)
    for offset, (_, matches, _) in alone if cut is None else ():
        for name, start, end in matches:
            assert any(name == one[0] and one[1] <= start + offset and end + offset <= one[2] for one in found)


def test_a_value_that_ends_in_something_invisible_is_replaced_whole() -> None:
    """The plain reading may hold what begins inside of that."""
    text = r"ABCDEFGH12345678tan\u200dgerine\u200b34code: a1b2"
    assert _run(list(text))[0].startswith("ABCDEFGH12345678<word:21>34code: ")
    assert _run(list(text)) == _run([text])


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from((*ATOMS, "\n", "\t", '"', "\\", "/", "\u200b")), max_size=10).map("".join), st.integers(1, 3), st.booleans(), cuts)
@example("see\nAKIAABCDEFGH12345678", 1, True, [])
@example("AKIA\u200bcode code ", 1, True, [])
@example("see\nrm -rf /", 2, True, [])
@example("see\u200bAKIAABCDEFGH12345678\u200bso", 2, True, [])
@example("see\u200bAKIAABCDEFGH12345678\u200bso", 3, True, [])
def test_what_a_string_of_escaped_json_says_is_found_in_it(text: str, levels: int, to_ascii: bool, where: list[int]) -> None:
    """Whatever stands before a value is what its escape stands for, in JSON inside JSON too, and not the escape's last letter."""
    written, at = "", [0]
    for char in text:
        for _ in range(levels):
            char = json.dumps(char, ensure_ascii=to_ascii)[1:-1]
        written += char
        at.append(len(written))
    _released, found, cut = _run(_cut(written, where))
    covered = {place for _, start, end in found for place in range(start, end)}
    for match in LEXICAL.scan(text, Origin.ASSISTANT).matches:
        if cut is None:
            assert match.pattern.id != "shell"
            assert covered.issuperset(range(at[match.start], at[match.end])), match


@pytest.mark.parametrize("text", [
    r'{"a": "AKI\u0041ABCDEFGH12345678\\u0061 so"}', r'{"a": "see\u200bAKIAABCDEFGH12345678\u200bso"}',
    r'{"a": "\nAKIAABCDEFGH12345678\\n"}', '{"a": "see\u200bAK\\u0049AABCDEFGH12345678."}',
])  # fmt: skip
@pytest.mark.parametrize("size", [1, 3, 99])
def test_a_value_that_who_reads_the_json_sees_is_replaced(text: str, size: int) -> None:
    """Whatever stands beside it once escapes are undone again, or what is invisible is taken out."""
    assert "AKIAABCDEFGH12345678" in json.loads(text)["a"]
    released = _run([text[at : at + size] for at in range(0, len(text), size)])[0]
    assert "<key:" in released
    assert "AKIAABCDEFGH12345678" not in json.loads(released)["a"]


def test_a_value_that_nobody_sees_is_replaced() -> None:
    """In tag characters, which a screen does not show and a program reads."""
    assert _run(list(f"Fine. {TAGGED} Bye."))[0] == "Fine. <key:20> Bye."


def test_an_escaped_value_in_a_tool_call_is_replaced() -> None:
    text = '{"key": "\\u0041KIAABCDEFGH12345678 and \\u0034111111111111111"}'
    released, found, _ = _run(list(text))
    assert {name for name, _, _ in found} >= {"key", "digits"}
    assert released == '{"key": "<key:25> and <digits:21>"}'


@pytest.mark.parametrize("size", [1, 3, 8, 40])
def test_a_value_is_found_whole_that_goes_on_over_shorter_ones_of_its_kind(size: int) -> None:
    some = StreamRules([_pattern("long", "k=([a-z=]{12}|[a-z]{2}|[a-z]{8})")], lambda pattern: Act.REPLACE)
    stream, text = TextStream(some, lambda match, value: f"<{value}>"), "so k=abk=cdefghij, and no more"
    said = "".join(stream.feed(text[at : at + size]).text for at in range(0, len(text), size)) + stream.finish().text
    assert said == "so k=<abk=cdefghij>, and no more"


def test_ordinary_text_is_never_held() -> None:
    stream = TextStream(BALANCED, lambda match, value: "")
    for word in ["The", "weather", "was", "fine,", "so", "we", "walked", "to", "the", "harbour", "and", "looked", "at", "boats", "for", "an", "hour."]:
        assert stream.feed(" " + word).text == " " + word
        assert stream.held == 0
    stream.close()


def test_the_beginning_of_a_match_is_held_and_no_more() -> None:
    stream = TextStream(BALANCED, lambda match, value: "[gone]")
    assert stream.feed("the key is AK").text == "the key is "
    assert stream.held == 2
    assert stream.feed("IAABC").text == ""
    assert stream.feed(" or not").text == "AKIAABC or not"
    assert stream.held == 0
    stream.close()


def test_a_text_that_begins_matches_for_ever_is_let_go_and_says_so() -> None:
    rules = StreamRules(PATTERNS, lambda pattern: Act.REPLACE)
    stream = TextStream(rules, lambda match, value: "[gone]")
    overdue = False
    for _ in range(MAX_HOLD // 10 + 20):
        released = stream.feed("0a1b2c3d4e")
        overdue = overdue or released.overdue
    assert overdue
    assert stream.held <= MAX_HOLD
    stream.close()


@settings(max_examples=300, deadline=None)
@given(disguised, st.lists(st.tuples(st.integers(0, 200), st.booleans()), max_size=10))
@example("code: a1b2 and 4111 1111 1111 1111 tangerine", [(7, True), (12, True), (30, True), (36, True)])
@example(" rm -rf /", [(9, True)])
def test_ended_holds_neither_repeat_nor_lose_text(text: str, where: list[tuple[int, bool]]) -> None:
    """What comes out, with stand-ins taken away, is the text without the marked spans, wherever holds were ended."""
    ended = {min(cut, len(text)) for cut, end in where if end}
    stream = TextStream(RULES, lambda match, value: "\0")
    out, at, spans = "", 0, []
    for piece in (*_cut(text, [cut for cut, _ in where]), None):
        at += len(piece or "")
        steps = [stream.finish() if piece is None else stream.feed(piece)]
        if piece is not None and at in ended and steps[0].cut is None and stream.held:
            steps.append(stream.release_overdue())
            assert not stream.held or steps[-1].cut is not None  # what a cut holds goes nowhere
        out += "".join(released.text for released in steps)
        spans += [(match.start, match.end) for released in steps for act, match in released.found if act is Act.REPLACE]
        if steps[-1].cut is not None:
            text = text[: steps[-1].cut.start]
            break
    stream.close()
    kept = "".join(char for place, char in enumerate(text) if not any(start <= place < end for start, end in spans))
    assert out.replace("\0", "") == kept


def test_a_value_that_is_complete_does_not_go_out_where_its_hold_ends() -> None:
    for value in ("AKIAABCDEFGH12345678", "4111 1111 1111 1111", "４111 1111 1111 1111", "tangerine"):
        stream = TextStream(RULES, lambda match, value: "[gone]")
        first = stream.feed("it is " + value).text
        released = stream.release_overdue()
        assert first + released.text == "it is [gone]"
        assert released.overdue
        assert stream.feed(" and that").text + stream.finish().text == " and that"


def test_a_hold_can_be_ended() -> None:
    stream = TextStream(BALANCED, lambda match, value: "[gone]")
    assert stream.feed("call AKIAAB").text == "call "
    released = stream.release_overdue()
    assert released.text == "AKIAAB"
    assert released.overdue
    assert stream.held == 0
    stream.close()


@pytest.mark.parametrize("where", range(1, 40))
def test_a_cut_leaves_the_same_words_behind(where: int) -> None:
    text = "first do this and then rm -rf / and that"
    assert _run([text[:where], text[where:]]) == ("first do this and then rm -", (), ("shell", 27))
