"""Where in a response the events of its stream say that they belong. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from detectors.values import Path
from gateway.wires.base import Malformed
from gateway.wires.collecting import MAX_PARTS
from gateway.wires.numbering import Begun, number_of

PLACES: Final = ("output_index", "content_index", "summary_index", "command_index")
_ITEM, _PART = PLACES[:2]


@dataclass(slots=True)
class Places:
    """The items of one response, and the parts of their content: clients count those that begin."""

    items: Begun = field(default_factory=Begun)
    parts: dict[int, Begun] = field(default_factory=dict)
    """By item."""

    known: int = 0
    """Parts of all items together."""

    last: tuple[str | int, ...] = ()
    """The part whose text was written last, or the item, where it has no parts."""

    def goes_on(self, place: tuple[str | int, ...], path: Path) -> None:
        """There is a piece of text. Clients show texts in the order of their places.

        Raises:
            Malformed: a later one said something before.
        """
        if place < self.last:
            raise Malformed(path, "", "no more text of a part that stands before one that said something")
        self.last = place

    def note(self, kind: str, event: dict[str, Any]) -> None:
        """There is an event of a ``kind``.

        Raises:
            Malformed: nobody can tell where it belongs.
        """
        if kind == "response.created":
            response = event.get("response")
            self.items.come_whole(isinstance(response, dict) and response.get("output"))
        elif kind.endswith((".added", ".delta")):
            item, part = (number_of(event.get(key), (key,)) for key in (_ITEM, _PART))
            if kind == "response.output_item.added":
                self.items.begin(item, (_ITEM,))
                thing = event.get("item")
                content = thing.get("content") if isinstance(thing, dict) else None
                count = len(content) if isinstance(content, list) else 0
                self._more(count, item)
                self.parts.setdefault(item, Begun([*range(count)]))
                return
            self.items.check(item, (_ITEM,))
            if event.get(_PART) is None:
                return
            if kind == "response.content_part.added":
                self._more(1, item)
                self.parts.setdefault(item, Begun()).begin(part, (_PART,))
            elif (parts := self.parts.get(item)) is not None:
                parts.check(part, (_PART,))

    def _more(self, count: int, item: int) -> None:
        self.known += count
        if self.known > MAX_PARTS:
            raise Malformed((_ITEM,), item, f"at most {MAX_PARTS} parts in one stream")
