"""Replace strings and numbers inside a JSON body and leave every other byte as it was received.

Parsing and writing a body again would reformat numbers, order, escapes and white space that a provider may
sign, cache or read in its own way. So an edit finds the tokens of the strings concerned and splices new ones
in.
"""

from __future__ import annotations

import re
from collections.abc import Container, Mapping, Sequence
from typing import Any, Final

import orjson

from detectors.values import CODED, INNER, Key, Path
from gateway.wires import files

ASCII_ESCAPE: Final = b"\\u00"
"""Where a body has none, no key of letters is written with escapes."""

_SPACE: Final = re.compile(rb"[ \t\n\r]*")
_STRING: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_MEMBER: Final = re.compile(rb'[ \t\n\r]*:[ \t\n\r]*("[^"\\]*(?:\\.[^"\\]*)*")', re.DOTALL)
_SCALAR: Final = re.compile(rb"[-+.0-9A-Za-z]+")
_NUMBER: Final = b"-0123456789"
_SKIP: Final = re.compile(rb'[^"\[\]{}]*')

# A tree of the wanted paths: a step leads to a subtree, `_HERE` to the new text of the string at this very
# place.
_HERE: Final = object()
_Tree = dict[Any, Any]
_Splice = tuple[int, int, bytes]


def apply_edits(body: bytes, edits: Mapping[Path, str]) -> bytes:
    """Return ``body`` with the string or number at each path replaced by a string.

    Args:
        body: valid JSON.
        edits: path to new text. A path may enter JSON inside a string (`INNER`), a text in base64 (`CODED`), and may name a
        key itself (`Key`).

    Raises:
        KeyError: a path does not lead to a string or number in this body.
    """
    splices, hit = _splices(body, _tree(edits))
    if len(hit) != len(edits):
        raise KeyError("an edit's path does not lead to a string in this body")
    return _splice(body, splices)


def replace_text(body: bytes, path: Path, text: str) -> bytes:
    """As `apply_edits` for one path, which is known to lead to a string in this body: mostly in a tenth of the time."""
    token = _only(body, path)
    if token is None:
        return apply_edits(body, {path: text})
    return b"".join((body[: token[0]], orjson.dumps(text), body[token[1] :]))


def places(body: bytes, paths: Sequence[Path]) -> list[tuple[int, int, Path]]:
    """Where the strings and numbers at these paths stand in ``body``: start, end and path of each that is there, in order.

    Args:
        body: valid JSON. paths: none of them enters JSON inside a string or names a key.
    """
    splices, _ = _splices(body, _tree({path: str(number) for number, path in enumerate(paths)}))
    return [(start, end, paths[orjson.loads(orjson.loads(number))]) for start, end, number in splices]


def clear_members(body: bytes, names: Container[str]) -> bytes:
    """Return ``body`` with the value of every member of these names made ``null``, or an empty list where it is a list.

    Wherever they stand but inside strings, and however their keys are written.
    """
    splices: list[_Splice] = []
    at = body.find(b'"')
    while at >= 0:
        end = _string_end(body, at)
        start = _space(body, end)
        if body[start : start + 1] == b":" and orjson.loads(body[at:end]) in names:
            start = _space(body, start + 1)
            end = _skip(body, start)
            empty = b"[]" if body[start] == 0x5B else b"null"
            if body[start:end] not in (empty, b"null"):
                splices.append((start, end, empty))
        at = body.find(b'"', end)
    return _splice(body, splices) if splices else body


def _only(body: bytes, path: Path) -> tuple[int, int] | None:
    """Where the string at a path is, if its last key is written only once in the body, so that no other can be meant.

    So it is in the frames of a stream, which then need not be walked through. None: walk.
    """
    key = path[-1] if path else None
    if not isinstance(key, str) or INNER in path:
        return None
    # Written with escapes, the key that is meant would be passed by for another one: nothing else can spell a plain name twice.
    if ASCII_ESCAPE in body or not (key.isascii() and key.isidentifier()):
        return None
    written = orjson.dumps(key)
    at = body.find(written)
    # A quotation mark behind anything else may stand inside a string, and what follows it be no key of this name.
    if at < 1 or body[at - 1] not in b"{, \t\n\r" or body.find(written, at + 1) >= 0:
        return None
    found = _MEMBER.match(body, at + len(written))
    return found.span(1) if found is not None else None


def _tree(edits: Mapping[Path, str]) -> _Tree:
    tree: _Tree = {}
    for path, text in edits.items():
        node = tree
        for step in path:
            node = node.setdefault(step, {})
        node[_HERE] = text
    return tree


def _splices(body: bytes, tree: _Tree) -> tuple[list[_Splice], set[int]]:
    """The splices that the edits come to, in order, and the identities of the edits (leaves) that were
    met."""
    found: list[_Splice] = []
    hit: set[int] = set()
    _value(body, _space(body, 0), tree, found, hit)
    return found, hit


def _splice(body: bytes, splices: list[_Splice]) -> bytes:
    parts: list[bytes] = []
    last = 0
    for start, end, token in splices:
        parts += (body[last:start], token)
        last = end
    parts.append(body[last:])
    return b"".join(parts)


def _value(body: bytes, at: int, tree: _Tree, found: list[_Splice], hit: set[int]) -> int:
    """Walk the value that starts at ``at``; append its splices; return where it ends."""
    first = body[at]
    if first == 0x22:  # "
        end = _string_end(body, at)
        if _HERE in tree:
            hit.add(id(tree))
            found.append((at, end, orjson.dumps(tree[_HERE])))
        elif INNER in tree:
            _inside(body, at, end, tree[INNER], found, hit)
        elif CODED in tree:
            _coded(body, at, end, tree[CODED], found, hit)
        return end
    if first == 0x7B:  # {
        return _object(body, at, tree, found, hit)
    if first == 0x5B:  # [
        return _array(body, at, tree, found, hit)
    end = _SCALAR.match(body, at).end()  # type: ignore[union-attr]
    if _HERE in tree and first in _NUMBER:
        hit.add(id(tree))
        found.append((at, end, orjson.dumps(tree[_HERE])))
    return end


def _coded(body: bytes, at: int, end: int, tree: _Tree, found: list[_Splice], hit: set[int]) -> None:
    """Edit the text that is written in base64 inside the string from ``at`` to ``end``."""
    value = orjson.loads(body[at:end])
    text = orjson.dumps(files.decoded(value))  # as if the string were the text
    splices: list[_Splice] = []
    _value(text, 0, tree, splices, hit)
    if splices:
        found.append((at, end, orjson.dumps(files.with_text(value, orjson.loads(_splice(text, splices))))))


def _inside(body: bytes, at: int, end: int, tree: _Tree, found: list[_Splice], hit: set[int]) -> None:
    """Edit the JSON that is written inside the string from ``at`` to ``end``."""
    inner = orjson.loads(body[at:end]).encode()
    try:
        orjson.loads(inner)
    except orjson.JSONDecodeError:  # a repeated key, whose other value was meant
        return
    splices, met = _splices(inner, tree)
    hit |= met
    found.append((at, end, orjson.dumps(_splice(inner, splices).decode())))


def _object(body: bytes, at: int, tree: _Tree, found: list[_Splice], hit: set[int]) -> int:
    at = _space(body, at + 1)
    while body[at] != 0x7D:  # }
        end = _string_end(body, at)
        key = orjson.loads(body[at:end])
        if (renamed := tree.get(Key(key))) is not None:
            hit.add(id(renamed))
            found.append((at, end, orjson.dumps(renamed[_HERE])))
        at = _space(body, _space(body, end) + 1)  # past the colon
        sub = tree.get(key)
        at = _skip(body, at) if sub is None else _value(body, at, sub, found, hit)
        at = _space(body, at)
        if body[at] == 0x2C:  # ,
            at = _space(body, at + 1)
    return at + 1


def _array(body: bytes, at: int, tree: _Tree, found: list[_Splice], hit: set[int]) -> int:
    at = _space(body, at + 1)
    index = 0
    while body[at] != 0x5D:  # ]
        sub = tree.get(index)
        at = _skip(body, at) if sub is None else _value(body, at, sub, found, hit)
        at = _space(body, at)
        if body[at] == 0x2C:  # ,
            at = _space(body, at + 1)
        index += 1
    return at + 1


def _skip(body: bytes, at: int) -> int:
    """Return where the value at ``at`` ends, without a look inside; nesting costs no stack."""
    first = body[at]
    if first == 0x22:
        return _string_end(body, at)
    if first not in b"{[":
        return _SCALAR.match(body, at).end()  # type: ignore[union-attr]
    depth = 0
    while True:
        char = body[at]
        if char == 0x22:
            at = _string_end(body, at)
        else:
            depth += (char in b"{[") - (char in b"}]")
            at += 1
            if not depth:
                return at
        at = _SKIP.match(body, at).end()  # type: ignore[union-attr]


def _string_end(body: bytes, at: int) -> int:
    return _STRING.match(body, at).end()  # type: ignore[union-attr]


def _space(body: bytes, at: int) -> int:
    return _SPACE.match(body, at).end()  # type: ignore[union-attr]
