"""JSON is read as its strictest reader would."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from wires_support import TEXT, VALUES

from gateway.wires import strict


@given(VALUES, st.sampled_from([None, 1]), st.booleans())
def test_a_document_is_read_as_it_was_written(value: Any, indent: int | None, ascii_only: bool) -> None:
    written = json.dumps(value, indent=indent, ensure_ascii=ascii_only)

    assert strict.loads(written.encode()) == orjson.loads(written)
    assert strict.loads(written) == orjson.loads(written)


@given(VALUES, TEXT, TEXT, VALUES, VALUES)
def test_a_repeated_key_is_refused_at_any_depth(doc: Any, outer: str, key: str, one: Any, two: Any) -> None:
    name = json.dumps(key)
    twice = "{" + f"{name}: {json.dumps(one)}, {name}: {json.dumps(two)}" + "}"
    written = "[" + json.dumps(doc) + ", {" + json.dumps(outer) + ": [0, " + twice + "]}]"

    with pytest.raises(strict.BadJson) as refused:
        strict.loads(written)

    assert refused.value.code == "duplicate_key"


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":1,"\\u0061":2}',
        b'{"messages":[],"messages":[]}',
        b'{"a":{"b":[{"c":1,"c":1}]}}',
        '{"\u00e9":1,"\\u00e9":2}'.encode(),
    ],
)
def test_a_key_is_the_same_however_it_is_written(body: bytes) -> None:
    with pytest.raises(strict.BadJson) as refused:
        strict.loads(body)

    assert refused.value.code == "duplicate_key"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"nul",
        b"{'a':1}",
        b'{"a":1,}',
        b"[NaN]",
        b"[Infinity]",
        b"[1e999]",
        b'"\xff"',
        b'"\\ud800"',
        b'\xef\xbb\xbf{"a":1}',
        '{"a":1}'.encode("utf-16"),
        b'{"a":1}{"b":2}',
        b"[" * 300 + b"]" * 300,
        b"[" * 100_000,
        b'"\x00"',
    ],
)
def test_what_is_not_plain_json_in_utf8_is_refused(body: bytes) -> None:
    with pytest.raises(strict.BadJson) as refused:
        strict.loads(body)

    assert refused.value.code == "invalid_json"


@pytest.mark.parametrize(
    ("body", "place"),
    [
        (b'{"model":"a","model":"b"}', "model"),
        (b'{"messages":[{"role":"user"},{"role":"user","content":"a","content":"b"}]}', "messages[1].content"),
        (b'{"a":[[{"b":1}, {"c":{"d":{}, "d":[]}}]]}', "a[0][1].c.d"),
        (b'[{"hunter2!":1,"hunter2!":1}]', "[0].*"),
        (b'{"":1,"":2}', "*"),
        (b'{"a":{"b":1,"b":2},"a":3}', "a.b"),
    ],
)
def test_where_a_key_is_repeated_is_told(body: bytes, place: str) -> None:
    with pytest.raises(strict.BadJson) as refused:
        strict.loads(body)

    assert refused.value.code == "duplicate_key"
    assert str(refused.value).startswith(f"{place}: ")


@pytest.mark.parametrize(("body", "at"), [(b'{"a":"\xff"}', 6), ('{"a":1}'.encode("utf-16"), 0), (b'{"a":"\xed\xa0\x80"}', 6)])
def test_where_a_body_is_no_utf8_is_told(body: bytes, at: int) -> None:
    with pytest.raises(strict.BadJson, match=f"not UTF-8 at byte {at}$"):
        strict.loads(body)


def test_a_refusal_does_not_show_the_body() -> None:
    with pytest.raises(strict.BadJson) as refused:
        strict.loads(b'{"password": "hunter2", }')

    assert "hunter2" not in str(refused.value)


def test_a_number_of_many_digits_is_read() -> None:
    assert strict.loads(b"[0." + b"1" * 6000 + b" ]") == [orjson.loads(b"0." + b"1" * 6000)]
