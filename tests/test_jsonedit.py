"""Edits change the strings they name and no other byte."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from wires_support import TEXT, VALUES

from detectors.values import INNER, Key, Path
from gateway.wires.collecting import strings
from gateway.wires.jsonedit import apply_edits, replace_text

CASES: list[tuple[bytes, dict[Path, str], bytes]] = [
    (b'{"a": "x"}', {("a",): "y"}, b'{"a": "y"}'),
    (b' [ 1.0e5 , "x" ,null]\n', {(1,): "y"}, b' [ 1.0e5 , "y" ,null]\n'),
    (b'{"a":"x","b":{"a":"x"}}', {("b", "a"): "y"}, b'{"a":"x","b":{"a":"y"}}'),
    (b'{"\\u0061":"x"}', {("a",): "y"}, b'{"\\u0061":"y"}'),
    (b'{"a\\"}":["}","\\\\"],"b":"x"}', {("b",): "y"}, b'{"a\\"}":["}","\\\\"],"b":"y"}'),
    (b'{"a":"x"}', {(Key("a"),): "k", ("a",): "y"}, b'{"k":"y"}'),
    (b'{"a":"x"}', {("a",): 'q"\n\\'}, b'{"a":"q\\"\\n\\\\"}'),
    (b'{"a":"{\\"b\\": \\"x\\"}"}', {("a", INNER, "b"): "y"}, b'{"a":"{\\"b\\": \\"y\\"}"}'),
    (
        b'{"a":"[\\"[\\\\\\"x\\\\\\"]\\", 1]"}',
        {("a", INNER, 0, INNER, 0): "y"},
        b'{"a":"[\\"[\\\\\\"y\\\\\\"]\\", 1]"}',
    ),
    (b'"x"', {(): "y"}, b'"y"'),
    (b"{}", {}, b"{}"),
    (b'{"a":"x","a":"x"}', {("a",): "y"}, b'{"a":"y","a":"y"}'),  # only an upstream may say it twice
    (b'{"n": 4111111111111111 ,"m":-1.5e9}', {("n",): "x"}, b'{"n": "x" ,"m":-1.5e9}'),
    (b'{"a":"","a":"{\\"b\\":\\"x\\"}"}', {("a", INNER, "b"): "y"}, b'{"a":"","a":"{\\"b\\":\\"y\\"}"}'),
]


@pytest.mark.parametrize(("body", "edits", "edited"), CASES)
def test_only_the_strings_named_change(body: bytes, edits: dict[Path, str], edited: bytes) -> None:
    assert apply_edits(body, edits) == edited


@pytest.mark.parametrize(
    "path",
    [("b",), ("a", 0), (0,), ("a", "b"), ("o", "z"), ("o",), (), ("s", INNER, "x"), (Key("b"),), ("o", Key("y"))],
)
def test_a_path_that_leads_to_no_string_or_number_is_an_error(path: Path) -> None:
    with pytest.raises(KeyError):
        apply_edits(b'{"a":"x","n":1,"o":{"z":null},"s":"plain"}', {path: "y", ("a",): "z"})


@given(VALUES, st.sampled_from([None, 2]), st.booleans(), TEXT)
def test_one_text_alone_is_replaced_where_a_walk_would_replace_it(doc: Any, indent: int | None, plain: bool, text: str) -> None:
    body = json.dumps(doc, indent=indent, ensure_ascii=plain).encode()
    for _, path in strings(doc, (), numbers=False):
        if not (path and isinstance(path[-1], Key)):
            assert replace_text(body, path, text) == apply_edits(body, {path: text})


@pytest.mark.parametrize(
    "body",
    [
        b'{"x\\"content":"a","delta":{"c\\u006fntent":"b"}}', b'{"a":"content","delta":{"\\u0063ontent":"b"}}',
        b'{"content":"decoy","delta":{"c\\u006fntent":"b"}}', b'{"delta":{"\\u0063\\u006Fntent":"b"},"content":"decoy"}',
        b'{"content":"a","delta":{"content":"b"}}', b'{"a":",\\"content\\":","delta" : { "content" :\n"b"} }',
    ],
)  # fmt: skip
def test_a_key_that_is_written_oddly_or_twice_misleads_nobody(body: bytes) -> None:
    assert orjson.loads(replace_text(body, ("delta", "content"), "new"))["delta"]["content"] == "new"
    assert replace_text(body, ("delta", "content"), "new").count(b"new") == 1


@given(VALUES, st.sampled_from([None, 2]), st.booleans(), st.data())
def test_edits_give_the_document_with_the_texts_replaced(
    doc: Any, indent: int | None, ascii_only: bool, data: st.DataObject
) -> None:
    body = json.dumps(doc, indent=indent, ensure_ascii=ascii_only).encode()
    places = [path for _, path in strings(doc, ()) if not (path and isinstance(path[-1], Key))]
    chosen = data.draw(st.lists(st.sampled_from(places), unique=True)) if places else []
    edits = {path: data.draw(TEXT) for path in chosen}

    edited = apply_edits(body, edits)

    expected = orjson.loads(body)
    for path, text in edits.items():
        expected = _set(expected, path, text)
    assert orjson.loads(edited) == expected


@given(VALUES, st.booleans())
def test_a_text_replaced_by_itself_changes_no_byte_outside_the_strings(doc: Any, ascii_only: bool) -> None:
    body = json.dumps(doc, indent=1, ensure_ascii=ascii_only).encode()
    edits = {path: text for text, path in strings(doc, (), numbers=False) if not (path and isinstance(path[-1], Key))}

    edited = apply_edits(body, edits)

    assert orjson.loads(edited) == orjson.loads(body)
    assert _outside(edited) == _outside(body)


@given(VALUES, st.integers(1, 3))
def test_a_text_inside_json_inside_strings_is_found_again(doc: Any, depth: int) -> None:
    inner, path = json.dumps({"deep": "old", "doc": doc}), ("deep",)
    for _ in range(depth):
        inner, path = json.dumps({"s": inner, "doc": doc}), ("s", INNER, *path)  # type: ignore[assignment]

    edited = orjson.loads(apply_edits(inner.encode(), {path: "new"}))

    for _ in range(depth):
        assert edited["doc"] == orjson.loads(json.dumps(doc))
        edited = orjson.loads(edited["s"])
    assert edited == {"deep": "new", "doc": orjson.loads(json.dumps(doc))}


def test_what_is_not_edited_may_be_nested_deeply() -> None:
    body = b'{"deep":' + b"[" * 200 + b"]" * 200 + b',"a":"x"}'

    assert apply_edits(body, {("a",): "y"}) == body.replace(b'"x"', b'"y"')


def _set(doc: Any, path: Path, text: str) -> Any:
    if not path:
        return text
    step: Any = path[0]
    copy = doc.copy()
    copy[step] = _set(doc[step], path[1:], text)
    return copy


def _outside(body: bytes) -> list[bytes]:
    """The bytes between the strings."""
    found, at = [], 0
    while (begin := body.find(b'"', at)) >= 0:
        found.append(body[at:begin])
        at = begin + 1
        while body[at] != 0x22:
            at += 2 if body[at] == 0x5C else 1
        at += 1
    return [*found, body[at:]]
