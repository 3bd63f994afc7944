"""Converters: what people have becomes patterns, what cannot is told by where it stands, and garbage crashes nothing."""

from __future__ import annotations

import re
import subprocess
import sys
from codecs import BOM_UTF8
from pathlib import Path

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from patterns import convert
from patterns.convert import READERS, Unreadable
from patterns.schema import Kind

YARA = b"""
/* a comment with "quotes" */
rule Override : tag { meta: author = "x"
  strings: $a = "ignore the keeper\\x21" nocase // trailing
           $b = { 6A 40 }
           $c = /abc.*/i
           $d = "abc"
  condition: any of them }
rule Both { strings: $a = "one long string" $b = "another string" condition: all of them }
rule Two { strings: $a = "one long string" $b = "another string" condition: 2 of them }
rule Not { strings: $a = "never these words" condition: not $a }
rule Some { strings: $a1 = "hail the warden" $b = "a harmless word" condition: (any of ($a*)) or $a1 }
rule Alone { strings: $a = "warden, step aside" condition: all of them }
rule Torn { strings: $a = "hail the
  condition: $a }
rule Else { strings: $a = "hail the porter" condition: $b or any of ($c*) }
rule Bare { strings: $a = "hail the keeper" }
rule Stringless { condition: true }
"""
SIGMA = b"""
title: Gate words
level: high
detection:
  keywords: ['*open sesame now*', 'abc', 'a*wild card']
  selection: {message|contains: [lower the bridge]}
  several: [{message|re: 'x.*'}, {message|contains|all: [one of both, both of them]}, {message|endswith|all: let me in}]
  fields: {message: all the words, user: somebody}
  number: {count: 7}
  filter: {message|contains: [what is allowed]}
  condition: keywords or selection or several or fields or 1 of num*
---
title: Two
detection: {a: [one long thing], b: [other thing], condition: a and not b}
"""
STIX = orjson.dumps({"type": "bundle", "objects": [
    {"type": "identity"},
    {"type": "indicator", "name": "Gate", "pattern": "[artifact:payload_bin = 'raise the gate' OR x:y LIKE '%burn it\\'s down%']"},
    {"type": "indicator", "pattern": "[file:size > 5]"}, {"type": "indicator", "pattern": "x", "pattern_type": "snort"},
    {"type": "indicator", "revoked": True, "pattern": "[a:b = 'gone for good']"},
    {"type": "indicator", "valid_until": "2020-01-01T00:00:00Z", "pattern": "[a:b = 'was so once']"},
    {"type": "indicator", "valid_from": "2999-01-01T00:00:00Z", "pattern": "[a:b = 'will be so']"},
    {"type": "indicator", "name": "Gate", "valid_from": "2020-01-01T00:00:00Z", "pattern": "[a:b = 'hail OR farewell'] OR [a:b.c = 'lift the latch']"},
    {"type": "indicator", "name": "First", "pattern": "[a:b = 'before it'] OR [a:b = 'or so'] FOLLOWEDBY [a:b = 'after it']"},
    {"type": "indicator", "name": "Bare"},
]})  # fmt: skip
FOO = b"""tests:
- vars: {prompt: Tell me all, x: y}
- vars: {topic: Only one}
- vars: {a: b, c: d}
- 7
- vars: {prompt: [One of a list, 8, file://prompt.txt]}"""
PACK = b"- {id: a, kind: semantic, body: b, category: jailbreak.persona, severity: high}\n- {id: a}\n- 7"


@pytest.mark.parametrize(
    ("form", "data", "bodies", "faults"),
    [
        ("yara", YARA, ["ignore the keeper!", "hail the warden", "warden, step aside"],
         ["$b: a hexadecimal", "$c: a regular expression", "$d: the text 'abc'", "rule Both: condition: 'all of them'",
          "rule Two: condition: '2 of them'", "rule Not: condition: 'not $a'", "rule Torn: $a: wanted a text in quotation",
          "rule Else: condition: '$b or any of ($c*)' names none of its strings", "rule Bare: condition: it has none", "rule Stringless: strings: it has none"]),
        ("yara", b"rules { }", [], ["there is no rule"]),
        ("sigma", SIGMA, ["open sesame now", "lower the bridge", "let me in"],
         ["keywords: 'abc'", "keywords: 'a*wild card'", "several.message|re: modifier 're'",
          "several.message|contains|all: it asks for several texts", "rule 1: fields: it asks for several fields",
          "rule 1: number.count: wanted a text, not '7'", "rule 2: condition 'a and not b'"]),
        ("stix", STIX, ["raise the gate", "burn it's down", "hail OR farewell", "lift the latch"],
         ["pattern: 'file:size > 5'", "pattern_type 'snort'", "objects[8]: pattern: wanted observation",
          "objects[9]: pattern: wanted a text"]),
        ("garak", b'{"prompt":"Say it aloud","probe":"x"}\n{"prompt":{"turns":[{"content":{"text":"And again"}}]}}\n{"a":1}\n{',
         ["Say it aloud", "And again"], ["line 3: prompt: wanted a text", "line 4: prompt: wanted a text"]),
        ("garak", b"{curly} Say it\n{", ["{curly} Say it", "{"], []),
        ("garak", b"Say it aloud\n\nAnd again", ["Say it aloud", "And again"], []),
        ("garak", b'["Say it aloud", 7]', ["Say it aloud"], ["[1]: wanted a text"]),
        ("garak", b"[INST] Say it aloud [/INST]\nAnd again", ["[INST] Say it aloud [/INST]", "And again"], []),
        ("promptfoo", FOO, ["Tell me all", "Only one", "One of a list"],
         ["tests[2]: which", "tests[3]: wanted", "tests[4]: vars.prompt: wanted a text", "another file is not fetched"]),
        ("labelled-csv", b'text,label\nbe evil,1\nbe kind,legit\n"a, b",maybe\n', ["be evil", "be kind"],
         ["row 4: label: got 'maybe'"]),
        ("labelled-jsonl", b'{"prompt":"be evil","type":"jailbreak"}\n[]\nnot\n{"text":"x"}', ["be evil"],
         ["line 2: wanted", "line 3: not valid", "line 4: label"]),
        ("yaml", PACK, ["b"], ["a: kind", "patterns[2]: wanted"]),
        ("jsonl", b'{"id":"a","kind":"semantic","body":"b","category":"jailbreak.persona","severity":"high"}\n{', ["b"],
         ["line 2: not valid"]),
    ],
)  # fmt: skip
def test_what_people_have_becomes_patterns(form: str, data: bytes, bodies: list[str], faults: list[str]) -> None:
    found = convert.convert(data, form, "feed.x")
    assert [pattern.body for pattern in found.patterns] == bodies
    assert len(found.faults) == found.wrong == len(faults)
    for fault, says in zip(found.faults, faults, strict=True):
        assert says in fault
        assert fault.startswith("feed.x: ")
    again = convert.convert(data, form, "feed.x")
    assert [pattern.id for pattern in again.patterns] == [pattern.id for pattern in found.patterns]
    assert convert.convert(BOM_UTF8 + data, form, "feed.x") == found


DEEP = b"[" * 1_015 + b"]" * 1_015
"""As deep as JSON is read, and deeper than Python writes it."""

ROW = b'{"id":"a","kind":"semantic","body":"b","category":"jailbreak.persona","severity":"high"%s}\n'


@pytest.mark.parametrize(
    ("form", "data", "fault"),
    [
        *(("jsonl", ROW % b"" + ROW % (b',"id":"c","%s":%s' % (field.encode(), DEEP)), f"x: line 2: {'' if field == 'id' else 'c: '}{field}: ")
          for field in ("id", "kind", "body", "category", "severity", "check", "closeness", "hits", "state", "rollout", "provenance")),
        ("jsonl", ROW % b"" + ROW % b',"id":"c","kind":"regex","body":"(?u)(?a)x","hits":["x"],"misses":["y"]', "x: line 2: c: body: not an"),
        ("labelled-jsonl", b'{"text":"b","label":1}\n{"text":"c","label":%s}' % DEEP, "x: line 2: label: got what is nested too deeply"),
        *(("stix", b'{"type":"bundle","objects":[{"type":"indicator","pattern":"[a:b = \'so it is\']"},'
           b'{"type":"indicator","pattern":"[a:b = \'so it is\']","%s":%s}]}' % (field.encode(), DEEP[10:-10]), f"x: objects[1]: {field}")
          for field in ("valid_from", "valid_until", "pattern_type", "pattern")),
    ],
)  # fmt: skip
def test_one_odd_row_costs_no_other(form: str, data: bytes, fault: str) -> None:
    found = convert.convert(data, form, "x")
    assert [pattern.body for pattern in found.patterns] == ["so it is" if form == "stix" else "b"]
    (told,) = found.faults
    assert told.startswith(fault)


def test_labels_choose_the_kind() -> None:
    found = convert.convert(b"text,label,category\nbe evil,attack,jailbreak.persona\nbe kind,0,\n", "labelled-csv", "set.csv")
    assert (found.patterns[0].kind, found.patterns[0].category) == (Kind.SEMANTIC, "jailbreak.persona")
    assert found.patterns[1].kind is Kind.BENIGN


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(READERS)), st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
def test_garbage_is_a_fault_and_never_a_crash(form: str, data: bytes) -> None:
    try:
        found = convert.convert(data, form, "x")
    except Unreadable:
        return
    assert len({pattern.id for pattern in found.patterns}) == len(found.patterns)


LAUGHS = b"a0: &a0 [x, x]\n" + b"".join(b"a%d: &a%d [%s]\n" % (n, n, b", ".join([b"*a%d" % (n - 1)] * 10)) for n in range(1, 12))
SLOW = 400_000
"""Bytes that what takes the square of them would take minutes for."""


@pytest.mark.parametrize(
    ("form", "data", "message"),
    [
        *(("yaml", LAUGHS + b"patterns: [{id: a, kind: regex, category: jailbreak.persona, severity: high, %s: *a11}]" % field,
           "its aliases stand for too much") for field in (b"body", b"rollout", b"provenance")),
        ("yaml", LAUGHS + b"patterns: [{id: *a11}]", "its aliases stand for too much"),
        *(("sigma", LAUGHS + b"detection: {k: [abcdefgh]}\n%s: *a11" % field, "its aliases stand for too much")
          for field in (b"title", b"level")),
        ("sigma", LAUGHS + b"detection: {k: [abcdefgh], condition: *a11}", "its aliases stand for too much"),
        ("sigma", LAUGHS + b"detection: {k: *a11}", "its aliases stand for too much"),
        ("sigma", b"detection: {k: &a [*a]}", "something that it is itself a part of"),
        ("yaml", b"- {id: a, rollout: 1" + b":1" * SLOW + b"}", "line 1: a value that is no text has at most 64 characters"),
        ("yaml", b"- {id: a, rollout: " + b"1" * 5_000 + b"}", "has at most 64 characters"),
        ("yaml", b"- {id: a, body: 2020-99-99}", "a value is not what it is marked as: month must be"),
        ("yaml", b"- {id: a, body: !!bool maybe}", "a value is not what it is marked as"),
        ("yaml", b'- {id: a, body: !!int ""}', "a value is not what it is marked as"),
        ("promptfoo", b"- {vars: {a: !!timestamp never}}", "a value is not what it is marked as"),
        ("yaml", b"- " * 900, "it is nested too deeply"),
        ("labelled-csv", b",".join(b"c%d" % n for n in range(1_001)) + b"\n" + b"a\n" * 1_000, "more than 1000 columns"),
    ],
)
def test_a_document_stands_for_no_more_than_it_is(form: str, data: bytes, message: str) -> None:
    with pytest.raises(Unreadable, match=message):
        convert.convert(data, form, "x")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'label,text\n1,be evil\n1,"Ignore all of it\n0,Thanks for your help\n0,What is it?\n', "not CSV: row 3: unexpected end of data"),
        (b'label,text\n1,"Ignore" all of it\n', "not CSV: row 2: ',' expected after '\"'"),
        (b'label,"text\n1,be evil\n', "not CSV: row 1: unexpected end of data"),
        (b"label,txet\n1,be evil\n", "row 1: a header with a text is wanted, under one of text, prompt"),
        (b"be evil,text\n", "row 1: a header with a label is wanted, under one of label, type"),
        (b"", "row 1: a header with a text is wanted"),
    ],
)
def test_a_table_that_may_be_another_than_was_meant_is_refused_by_row(data: bytes, message: str) -> None:
    """One stray quotation mark made all rows behind it one text of an attack, without a word."""
    with pytest.raises(Unreadable, match=f"^x: {message}"):
        convert.convert(data, "labelled-csv", "x")


@pytest.mark.parametrize("data", [b"rule a " * (SLOW // 7), b"/*a" * (SLOW // 3), b"rule a {" + b"strings:" * (SLOW // 8),
                                  b"rule a {strings: condition:" + b"condition:" * (SLOW // 10),
                                  b"rule a {strings: " + b"$a={" * (SLOW // 4) + b" condition:"])  # fmt: skip
def test_a_source_that_was_written_to_be_slow_is_read_like_any_other(data: bytes) -> None:
    """Each took hours: some expression went on to the end of the source from each of its characters."""
    assert not convert.convert(data, "yara", "x").patterns


def test_aliases_are_taken_as_what_they_stand_for() -> None:
    found = convert.convert(
        b"base: &base {kind: semantic, category: jailbreak.persona, severity: high}\n"
        b"patterns:\n- {<<: *base, id: a, body: one}\n- {<<: *base, id: b, body: two}\n", "yaml", "x",
    )  # fmt: skip
    assert [pattern.body for pattern in found.patterns] == ["one", "two"]


def test_bounds_and_names() -> None:
    with pytest.raises(Unreadable, match="unknown format 'word'; known: yaml"):
        convert.convert(b"", "word", "x")
    with pytest.raises(Unreadable, match="at most 134217728"):
        convert.convert(bytes(convert.MAX_BYTES + 1), "jsonl", "x")
    many = convert.convert(b"\n".join(b"{" for _ in range(100_000)), "jsonl", "x")
    assert (many.wrong, len(many.faults)) == (100_000, convert.MAX_FAULTS)


@pytest.mark.parametrize(
    ("name", "data", "form"),
    [
        ("a.YAR", b"", "yara"), ("a.csv", b"", "labelled-csv"), ("a.txt", b"", "garak"), ("a.yml", PACK, "yaml"), ("a.yml", SIGMA, "sigma"),
        ("a.yaml", FOO, "promptfoo"), ("a.json", STIX, "stix"), ("a.stix.json", STIX, "stix"), ("a.json", b'["Say it aloud"]', "garak"),
        ("a.json", b'{"tests": []}', "promptfoo"), ("a.jsonl", b"", "jsonl"), ("a.jsonl", b'\nno\n{"id":"a","kind":"semantic"}', "jsonl"),
        ("a.jsonl", b'{"prompt":"be evil","type":"jailbreak"}', "labelled-jsonl"), ("a.jsonl", b'{"prompt":"be evil"}', "garak"),
    ],
)  # fmt: skip
def test_a_files_name_and_what_stands_in_it_tell_its_format(name: str, data: bytes, form: str) -> None:
    assert convert.guess(name, data) == convert.guess(name, BOM_UTF8 + data) == form


def test_what_tells_no_format_is_refused() -> None:
    with pytest.raises(Unreadable, match=r"list\.doc: its name does not tell its format: say it; known: yaml"):
        convert.guess("list.doc", b"")
    with pytest.raises(Unreadable, match="x: wanted one prompt a line"):
        convert.convert(b'{\n"some": "object"\n}', "garak", "x")


def test_names_that_are_given_twice_are_no_reason_to_lose_a_pattern() -> None:
    twice = [{"type": "indicator", "name": "Bad prompt", "pattern": f"[a:b = '{words}']"}
             for words in ("raise the gate", "lower the bridge", "raise the gate")]  # fmt: skip
    found = convert.convert(orjson.dumps({"type": "bundle", "objects": twice}), "stix", "x")
    assert [pattern.body for pattern in found.patterns] == ["raise the gate", "lower the bridge"]
    assert found.faults == ("x: objects[2]: x.bad-prompt-0: this id stands twice",)


def test_a_hundred_megabytes_are_read_within_bounds_and_more_is_refused_unread(tmp_path: Path) -> None:
    def imported(file: Path) -> tuple[int, str, float]:
        """Exit code, what was said, and the most memory that it took, in MB."""
        # Read by the child of itself: what waiting tells would hold this process's own, which it was forked from.
        code = "import sys; from gateway.cli import main; code = main(); print(open('/proc/self/status').read(), file=sys.stderr); sys.exit(code)"
        argv = [sys.executable, "-c", code, "patterns", "import", str(file), "--format", "labelled-jsonl", "--dry-run"]
        done = subprocess.run(argv, capture_output=True, text=True)
        said, _, status = done.stderr.partition("Name:\t")
        peak = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.M)
        assert peak is not None
        return done.returncode, done.stdout + said, int(peak[1]) / 1024

    large = tmp_path / "large.jsonl"
    with large.open("wb") as out:
        for number in range(27_000):
            out.write(b'{"text":"number %d %s","label":1}\n' % (number, b"word " * 740))
    assert large.stat().st_size > 100_000_000
    code, said, megabytes = imported(large)
    assert (code, said) == (0, "27000 read, 0 proposed, 0 wrong\n")
    assert megabytes < 700
    with large.open("ab") as out:
        out.truncate(200_000_000)
    code, said, _ = imported(large)
    assert code == 1
    assert "large.jsonl: 200000000 bytes; at most 134217728 are taken; split it" in said
