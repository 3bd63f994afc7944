"""What stands in a reply beside its texts: ids, kinds, states, models, times, messages of the provider, names of fields.

Wires do not list it, since it says nothing to a model; but a caller's program has it in its hands, and may show it.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable
from functools import lru_cache
from typing import Any, Final

import orjson

from detectors.values import CODED, INNER, Key, Path
from gateway.wires.base import EventKind, Malformed, StreamEvent, StreamReader
from gateway.wires.collecting import MAX_PARTS, check_depth, words
from gateway.wires.frames import Frame

SEALED: Final = words(
    "data signature thoughtSignature thought_signature encrypted_content encrypted_stdout encrypted_index sdkBlob sdk_blob",
    "result partial_image_b64 b64_json obfuscation embedding",
)
"""Fields of what is coded, encrypted or signed, or random letters that fill: where no wire reads one, it is nothing to read."""

_SHORT: Final = 5
"""Characters that are too few for a value."""

_PLAIN: Final = re.compile(r"[ _./-]?[A-Za-z]{1,15}(?:[ _./-][A-Za-z]{1,15})*+")
"""One ordinary word after the other: most of what stands there."""

_LEAST_NUMBER: Final = 10**11
"""Numbers from here on are looked at: those of cards are longer, times in seconds and counts shorter."""

_NUMBERS: Final = frozenset({int, float})


def names(doc: Any, read: Iterable[Path], passed: Container[str] = ()) -> list[tuple[str, Path]]:
    """Every string, name of a field and long number in ``doc`` that may hold a value and does not stand at a path of ``read``.

    ``passed``: fields that nobody can read.

    Raises:
        Malformed: it is nested too deeply, or holds too many.
    """
    walk = _Walk(frozenset(map(_outer, read)), passed)
    walk.value(doc, ())
    return walk.found


def with_names(reader: StreamReader, frame: Frame) -> list[StreamEvent]:
    """What a frame says, and then what it says beside that.

    Raises: as `StreamReader.read`.
    """
    events = reader.read(frame)
    if not frame.data.lstrip().startswith(b"{"):
        return events
    # what is heard has no place in a text
    passed = ("delta",) if any(event.kind is EventKind.AUDIO for event in events) else ()
    found = names(orjson.loads(frame.data), [event.path for event in events if event.path], passed)
    return [*events, *(StreamEvent(EventKind.LABEL, (), text, path) for text, path in found)] if found else events


def is_short(text: str) -> bool:
    """Whether there are too few characters for a value."""
    return len(text) <= _SHORT


def is_words(text: str) -> bool:
    """Whether it is one ordinary word after the other."""
    return _PLAIN.fullmatch(text) is not None


@lru_cache(1_024)
def _is_plain(key: str) -> bool:
    """Whether a field's name is ordinary words: the same few hundred come again and again."""
    return is_words(key)


def _outer(path: Path) -> Path:
    """The string of a body in which a path's text stands."""
    return next((path[:at] for at, step in enumerate(path) if step is INNER or step is CODED), path)


class _Walk:
    """Gathers what `names` finds. A frame has dozens of fields, mostly with nothing to look at: no path is made of those."""

    __slots__ = ("found", "known", "passed")

    def __init__(self, known: Container[Path], passed: Container[str]) -> None:
        self.known, self.passed = known, passed
        self.found: list[tuple[str, Path]] = []

    def value(self, value: Any, path: Path) -> None:
        if isinstance(value, dict):
            check_depth(value, path)
            for key, item in value.items():
                if len(key) > _SHORT and not _is_plain(key):
                    self._note(key, (*path, Key(key)))
                if not isinstance(item, str):
                    if isinstance(item, dict | list):
                        self.value(item, (*path, key))
                    elif item and isinstance(item, int | float) and abs(item) >= _LEAST_NUMBER:
                        self._note(_digits(item), (*path, key))
                elif len(item) > _SHORT and _PLAIN.fullmatch(item) is None and not (key in SEALED or key in self.passed):
                    self._note(item, (*path, key))
        elif isinstance(value, list):
            check_depth(value, path)
            if not (value and _NUMBERS.issuperset(map(type, value)) and max(map(abs, value)) < _LEAST_NUMBER):
                for index, item in enumerate(value):
                    self.value(item, (*path, index))
        elif isinstance(value, str):
            if len(value) > _SHORT and _PLAIN.fullmatch(value) is None:
                self._note(value, path)
        elif isinstance(value, int | float) and abs(value) >= _LEAST_NUMBER:
            self._note(_digits(value), path)

    def _note(self, text: str, path: Path) -> None:
        if path not in self.known:
            if len(self.found) >= MAX_PARTS:
                raise Malformed(path, text, f"at most {MAX_PARTS} names in one body")
            self.found.append((text, path))


def _digits(number: float) -> str:
    return str(int(number)) if number == int(number) else str(number)
