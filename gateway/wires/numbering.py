"""By what number a stream says which choice, block, item or call a piece of text is of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from detectors.values import Path
from gateway.wires.base import MAX_CHOICES, Malformed
from gateway.wires.collecting import MAX_PARTS


def number_of(value: Any, path: Path) -> int:
    """The number that a field holds, 0 where it has none.

    Raises:
        Malformed: it is something else: clients would take it for the last one (-1), or each for another one (1.0, true).
    """
    if value is None:
        return 0
    if type(value) is int and value >= 0:
        return value
    raise Malformed(path, value, "a whole number from 0 on")


def distinct(things: Sequence[Any], path: Path) -> None:
    """See to it that no two things of one frame have one number: who shows the first of them shows another text than who goes
    by its number.

    Raises:
        Malformed: there are two, or a number is none.
    """
    if len(things) > 1:
        numbers = [number_of(one.get("index"), path) for one in things if isinstance(one, dict)]
        if len(set(numbers)) < len(numbers):
            raise Malformed(path, things, "one of each number in a frame")


def asked(count: Any, times: int = 1) -> int | None:
    """How many choices a request asks for; None where nobody can tell."""
    if count is None:
        return times
    return count * times if type(count) is int and count > 0 else None


def ended(asked: int | None, known: Mapping[int, bool]) -> list[int]:
    """The choices that end where all do: those ``known`` that are open, and the others that were ``asked`` for, which have not
    begun. A program that waits for each of them waits no longer."""
    wanted = dict.fromkeys(range(min(asked or 0, MAX_CHOICES)), True) | dict(known)
    return [number for number, is_open in sorted(wanted.items()) if is_open]


@dataclass(slots=True)
class Begun:
    """Things of one kind that began, one after the other.

    Some clients find the one that a piece is of by its number, others by counting. Where the two would find different ones,
    nobody can tell what the piece goes on with.
    """

    numbers: list[int] = field(default_factory=list)
    """The number that each began with, in their order."""

    whole: bool = False
    """The message that they are parts of said them as it began."""

    def come_whole(self, things: Any) -> None:
        """The message began with these."""
        self.whole = self.whole or bool(things)

    def begin(self, number: int, path: Path) -> None:
        """
        Raises:
            Malformed: there are too many, or they came whole.
        """
        self._unless_whole(path)
        if len(self.numbers) >= MAX_PARTS:
            raise Malformed(path, number, f"at most {MAX_PARTS} of them in one stream")
        self.numbers.append(number)

    def check(self, number: int, path: Path) -> None:
        """There is a piece of the thing of that number.

        Raises:
            Malformed: counted, another one has its place; or they came whole.
        """
        self._unless_whole(path)
        if number < len(self.numbers) and self.numbers[number] != number:
            raise Malformed(path, number, "the number of what began at that place")

    def _unless_whole(self, path: Path) -> None:
        if self.whole:
            raise Malformed(path, "", "no pieces in a message that came whole")
