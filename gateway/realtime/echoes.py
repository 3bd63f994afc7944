"""What a session's client said, to know it again where the server repeats it. Pure."""

from __future__ import annotations

from typing import Any, Final

from gateway.wires.collecting import strings

MAX_ECHOES: Final = 10_000
"""Texts that are known again, the last ones."""


class Echoes:
    """The strings of a client's events, as they went on. Of each a hash is kept, keyed for this process."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[int, None] = {}

    def note(self, event: Any) -> None:
        """An event went on, or a text was understood.

        Raises:
            Malformed: as `strings`.
        """
        for text, _ in strings(event, (), numbers=False):
            self._known.pop(hash(text), None)
            self._known[hash(text)] = None
        while len(self._known) > MAX_ECHOES:
            del self._known[next(iter(self._known))]

    def __contains__(self, text: object) -> bool:
        return hash(text) in self._known
