"""Gathering what a body says while a wire walks it: every text, and every part that nobody reads, within bounds."""

from __future__ import annotations

import re
from collections.abc import Set as AbstractSet
from typing import Any, Final

from detectors.values import INNER, TOOL_CALL, Key, Opaque, Origin, Path, Segment
from gateway.wires import strict
from gateway.wires.base import Malformed, Parsed

MAX_DEPTH: Final = 96
"""Nested values in a body. Deep JSON schemas of tools reach about 20; beyond this a stack is being
attacked."""

MAX_PARTS: Final = 50_000
"""Texts and opaque parts in one body: a context window full of one-word parts, at a microsecond each."""

LEAST_NUMBER: Final = 1_000_000
"""Numbers smaller than this are not listed: no card, account or national identifier is as short as six digits."""

_WORD: Final = re.compile(r"[\w.:/+=-]*", re.ASCII)  # what ids, kinds, names, times and signatures are made of
_EXACT: Final = 2**53  # from here on a float no longer tells whole numbers apart


def is_word(text: str) -> bool:
    """Whether a text looks like an id, a kind, a name, a time or a signature."""
    return _WORD.fullmatch(text) is not None


def words(*lines: str) -> frozenset[str]:
    """The words of some lines: how this package writes sets of names."""
    return frozenset(" ".join(lines).split())


SCHEMA_WORDS: Final = words(
    "type properties required description name items enum parameters function strict additionalProperties",
    "default title format anyOf oneOf allOf id input arguments content text role index object string integer",
    "number boolean array null custom input_schema json_schema schema functionDeclarations",
    "OBJECT STRING INTEGER NUMBER BOOLEAN ARRAY NULL function_declarations",
)
"""Words of JSON Schema and of the wires: alone, as a key or a value, they are no text of the caller's."""

UNKNOWN: Final = TOOL_CALL
"""The role of what a wire does not know in a reply: it might be a call, and is held to all that a call is held to."""


class Collector:
    """Gathers the parts of one body while a wire walks it, and enforces the bounds.

    A strict one is for requests: a wrong type where the wire documents text is the caller's mistake.
    Otherwise (replies) what stands there is listed as it is.
    """

    __slots__ = ("opaque", "segments", "strict")

    def __init__(self, strict: bool = True) -> None:
        self.segments: list[Segment] = []
        self.opaque: list[Opaque] = []
        self.strict = strict

    def text(self, value: str, role: str, origin: Origin, turn: int, path: Path, glued: bool = False) -> None:
        """List one text; the empty text says nothing and is left out."""
        if value:
            self.segments.append(Segment(value, role, origin, turn, path, glued))
            if len(self.segments) > MAX_PARTS:
                raise Malformed(path, value, f"at most {MAX_PARTS} texts in one body")

    def setting(self, value: Any, role: str, origin: Origin, turn: int, path: Path) -> None:
        """Meet an id, a kind, a name of a model, or an object of such: in a request, what does not look like one is listed with
        its names, since nobody checks here what a server makes of it, and some write even ids into the prompt."""
        if not self.strict:
            return
        if isinstance(value, str):
            if not is_word(value):
                self.text(value, role, origin, turn, path)
        elif isinstance(value, dict | list):
            for text, place in strings(value, path, numbers=False):
                if not is_word(text):
                    self.text(text, role, origin, turn, place)

    def hidden(self, origin: Origin, turn: int, path: Path, reason: str) -> None:
        """List one part that no detector reads."""
        self.opaque.append(Opaque(origin, turn, path, reason))
        if len(self.opaque) > MAX_PARTS:
            raise Malformed(path, "", f"at most {MAX_PARTS} parts in one body")

    def walk(self, value: Any, role: str, origin: Origin, turn: int, path: Path, nested: bool = False) -> None:
        """List every string in ``value``, keys and long numbers too, but for `SCHEMA_WORDS`.

        A key of plain letters is listed once: rows repeat their column names. ``nested``: strings that are
        JSON are entered.
        """
        seen: set[str] = set()
        for text, place in strings(value, path):
            if text in SCHEMA_WORDS:
                continue
            if place and isinstance(place[-1], Key) and text.replace("_", "").isalpha():
                if text in seen:
                    continue
                seen.add(text)
            if nested:
                self.json_text(text, role, origin, turn, place)
            else:
                self.text(text, role, origin, turn, place)

    def json_text(self, value: str, role: str, origin: Origin, turn: int, path: Path, glued: bool = False) -> None:
        """List a string that may itself be JSON (tool-call arguments, tool results): its strings, or else
        itself."""
        if value[:64].lstrip()[:1] in ("{", "[") and not (path and isinstance(path[-1], Key)):
            try:
                inner = strict.loads(value)
            except strict.BadJson:
                self.text(value, role, origin, turn, path, glued)
            else:
                self.walk(inner, role, origin, turn, (*path, INNER), nested=True)
        else:
            self.text(value, role, origin, turn, path, glued)

    def unknown(
        self,
        doc: dict[str, Any],
        known: AbstractSet[str],
        origin: Origin,
        turn: int = -1,
        path: Path = (),
        settings: AbstractSet[str] = frozenset(),
    ) -> None:
        """List the fields of an object that its wire does not know, names and all. ``known`` are read elsewhere; of
        ``settings`` what is none is listed (`setting`)."""
        rest = []
        for key, value in doc.items():
            if key in settings:
                if isinstance(value, str | dict | list):
                    self.setting(value, key, origin, turn, (*path, key))
            elif key not in known:
                rest.append(key)
        for key in sorted(rest):
            self.walk({key: doc[key]}, unknown_role(key, origin), origin, turn, path)

    def wrong(self, value: Any, wanted: str, role: str, origin: Origin, turn: int, path: Path) -> None:
        """Meet a value of a type that the wire does not document here.

        Raises:
            Malformed: the collector is strict.
        """
        if self.strict:
            raise Malformed(path, value, wanted)
        self.walk(value, unknown_role(role, origin), origin, turn, path)

    def parsed(self, model: str | None = None, streaming: bool = False) -> Parsed:
        return Parsed(model, streaming, self.segments, self.opaque)


def unknown_role(role: str, origin: Origin) -> str:
    """The role of a text that its wire does not know, where ``origin`` speaks."""
    return UNKNOWN if origin is Origin.ASSISTANT else role


def strings(value: Any, path: Path, numbers: bool = True) -> list[tuple[str, Path]]:
    """Every string in a JSON value, in document order, with its path; keys have a last step `Key`.

    ``numbers``: those from `LEAST_NUMBER` on count as the strings that they are written as.

    Raises:
        Malformed: the value is nested deeper than `MAX_DEPTH`.
    """
    found: list[tuple[str, Path]] = []
    _gather(value, path, numbers, found)
    return found


def _gather(value: Any, path: Path, numbers: bool, found: list[tuple[str, Path]]) -> None:
    if isinstance(value, str):
        found.append((value, path))
    elif isinstance(value, dict):
        check_depth(value, path)
        for key, item in value.items():
            found.append((key, (*path, Key(key))))
            _gather(item, (*path, key), numbers, found)
    elif isinstance(value, list):
        check_depth(value, path)
        for index, item in enumerate(value):
            _gather(item, (*path, index), numbers, found)
    elif numbers and isinstance(value, int | float) and abs(value) >= LEAST_NUMBER:
        found.append((_digits(value), path))


def _digits(number: float) -> str:
    """A number as it is mostly written: a whole one without a point, though a body may have one."""
    exact = isinstance(number, float) and number.is_integer() and abs(number) < _EXACT
    return str(int(number)) if exact else str(number)


def check_depth(value: Any, path: Path) -> None:
    """Refuse what only a stack could be attacked with.

    Raises:
        Malformed: ``path`` is deeper than `MAX_DEPTH`.
    """
    if len(path) > MAX_DEPTH:
        raise Malformed(path[:8], value, f"at most {MAX_DEPTH} nested values")


def want_model(doc: dict[str, Any]) -> str:
    """The request's ``model``.

    Raises:
        Malformed: it is missing, empty or not a string.
    """
    model = doc.get("model")
    if not isinstance(model, str) or not model:
        raise Malformed(("model",), model, "a model's name")
    return model


def want_flag(doc: dict[str, Any], key: str) -> bool:
    """A boolean field that may be missing or null.

    Raises:
        Malformed: it is something else; a gateway that guessed would screen a stream as a whole reply.
    """
    value = doc.get(key)
    if value is None or isinstance(value, bool):
        return bool(value)
    raise Malformed((key,), value, "true or false")
