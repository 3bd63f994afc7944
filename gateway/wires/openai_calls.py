"""Which call of a streamed chat completion a piece is of.

A call has a number, and pieces of one number are one call: so OpenAI's server and client have it. Others give every call
number 0, or none (Gemini's endpoint for OpenAI's clients, Ollama), and tell them apart by their ids, or send each whole. Of
those OpenAI's client makes one call, LangChain and others make several. So each is a text of its own that ends where the next
one begins, and all of one number are read as one text, too.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from detectors.values import Path
from gateway.wires.base import EventKind, Malformed, StreamEvent
from gateway.wires.numbering import number_of
from gateway.wires.openai_deltas import call_events

MAX_CALLS: Final = 1_024
"""Calls in one stream: each is remembered. A reply has a few."""


@dataclass(slots=True)
class _Call:
    """A call, as far as it has come.

    Attributes:
        place: stands for its number in channels. said: it has arguments.
    """

    place: int | str
    id: str = ""
    said: bool = False


class _Shown(NamedTuple):
    """What a piece shows of its call."""

    number: int
    id: str
    name: str
    said: bool


@dataclass(slots=True)
class Calls:
    """Those of one stream."""

    _all: dict[tuple[int, int], list[_Call]] = field(default_factory=dict)  # by choice and number
    _last: dict[tuple[int, int], _Call] = field(default_factory=dict)
    _at: dict[int, int] = field(default_factory=dict)  # the number of the call that each choice is at
    _count: int = 0

    def read(self, call: Any, choice: int, path: Path, events: list[StreamEvent]) -> None:
        """Add the events of one piece.

        Raises:
            Malformed: its number is none; it may be of several calls; or there are too many.
        """
        shown = _shown(call, path)
        before = self._at.setdefault(choice, shown.number)
        if shown.number > before:  # where the next one begins, clients parse the arguments of the one before
            self._at[choice] = shown.number
            events.append(StreamEvent(EventKind.STOP, (choice, "tool", self._last[choice, before].place)))
        known = self._of(shown, choice, path, events)
        found: list[StreamEvent] = []
        call_events(call, choice, path, found)
        if known.id and not shown.id and len(self._all[choice, shown.number]) > 1 and any(map(_is_text, found)):
            # LangChain takes it for a piece of the first one.
            raise Malformed((*path, "id"), None, "the id of one of several calls of one number")
        known.id = known.id or shown.id
        known.said = known.said or shown.said
        events += [_of_call(event, known.place) for event in found]

    def needs(self, call: Any, choice: int, path: Path) -> str:
        """The id without which nobody could tell that a piece is of this call, and not of the first one of its number."""
        shown = _shown(call, path)
        return shown.id if shown.id != self._all[choice, shown.number][0].id else ""

    def _of(self, shown: _Shown, choice: int, path: Path, events: list[StreamEvent]) -> _Call:
        whose = choice, shown.number
        those, last = self._all.setdefault(whose, []), self._last.get(whose)
        if last is not None and not _begins(shown, last):
            return last
        if last is not None:
            events.append(StreamEvent(EventKind.STOP, (choice, "tool", last.place)))
        known = next((one for one in those if shown.id and one.id == shown.id), None)
        if known is None:
            self._count += 1
            if self._count > MAX_CALLS:
                raise Malformed(path, "", f"at most {MAX_CALLS} calls in one stream")
            known = _Call(f"{shown.number}.{len(those)}" if those else shown.number)
            those.append(known)
        self._last[whose] = known
        return known


def _begins(shown: _Shown, last: _Call) -> bool:
    """Whether a piece is of another call than the last one of its number. Some say a call's name with every piece."""
    if shown.id and last.id:
        return shown.id != last.id
    return bool(shown.name) and last.said and not last.id


def _shown(call: Any, path: Path) -> _Shown:
    outer = call if isinstance(call, dict) else {}
    function = outer.get("function") or outer.get("custom")
    inner = function if isinstance(function, dict) else {}
    id, name = outer.get("id"), inner.get("name")
    return _Shown(
        number_of(outer.get("index"), (*path, "index")),
        id if isinstance(id, str) else "",
        name if isinstance(name, str) else "",
        bool(inner.get("arguments") or inner.get("input")),
    )


def _is_text(event: StreamEvent) -> bool:
    return bool(event.path) and event.kind is not EventKind.LABEL


def _of_call(event: StreamEvent, place: int | str) -> StreamEvent:
    """The event as one of the call with that place. What names it stays where it is: clients put that together by number."""
    channel = event.channel
    if not _is_text(event) or channel[0] == "whole":
        return event
    return event._replace(channel=(*channel[:2], place, *channel[3:]), family="/".join(map(str, channel)))
