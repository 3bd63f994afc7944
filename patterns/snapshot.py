"""One whole generation of the store, and what lies between two of them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, NamedTuple

from patterns.clock import Stamp
from patterns.schema import Pattern


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What stood under one generation.

    Attributes:
        generation: its number in this store, from 0 (empty); other replicas count for themselves.
        digest: names the content, the same on every replica that holds the same entries.
        patterns: by id; what was removed is not among them.
        clock: the latest stamp that the generation knows.
    """

    generation: int
    digest: str
    patterns: Mapping[str, Pattern]
    clock: Stamp


class Change(NamedTuple):
    """One field of a pattern that differs."""

    field: str
    before: Any
    after: Any


class Counts(NamedTuple):
    """How many patterns were added, removed and changed."""

    added: int
    removed: int
    changed: int


class Diff(NamedTuple):
    """What leads from one generation to another, by pattern id; ``counts`` tells of all, where the rest is cut short."""

    added: dict[str, Pattern]
    removed: dict[str, Pattern]
    changed: dict[str, tuple[Change, ...]]
    counts: Counts


def changes(before: Pattern, after: Pattern) -> tuple[Change, ...]:
    """The fields in which two revisions of a pattern differ."""
    pairs = ((name, getattr(before, name), getattr(after, name)) for name in _FIELDS)
    return tuple(Change(name, old, new) for name, old, new in pairs if old != new)


_FIELDS: Final = tuple(field.name for field in fields(Pattern))


def layered(base: Mapping[str, Pattern], store: Mapping[str, Pattern]) -> dict[str, Pattern]:
    """What is known in all: the packs' patterns with those of the store over them, which replace what has their id.

    A pattern retired in the store hides the pack's; one removed from the store lets the pack's be seen again.
    """
    return {**base, **store}
