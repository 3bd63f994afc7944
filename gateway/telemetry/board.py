"""Where the workers of one gateway show each other their numbers: memory that all of them have, made before they are.

A disk that is full takes nothing from it, and a worker that is killed leaves in it what it showed last. Each worker has a
place of its own, which whoever stands in for it goes on with. Two halves take turns, so that a half is whole when it counts.
"""

from __future__ import annotations

import mmap
import zlib
from typing import Final

HALF: Final = 4 * 2**20
"""Bytes that one worker may show; only what is written takes memory. Thousands of tenants and patterns take a quarter of it."""

_HEAD: Final = 8
_PLACE: Final = 2 * HALF + 1


class Board:
    """Places for ``workers``; make it before they are forked."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._memory = mmap.mmap(-1, workers * _PLACE)

    def show(self, place: int, data: bytes) -> None:
        """Put this in place of what was shown there.

        Raises:
            ValueError: it is longer than a place.
        """
        if len(data) > HALF - _HEAD:
            raise ValueError(f"{len(data)} bytes, more than the {HALF - _HEAD} that a worker may show")
        turn = place * _PLACE
        half = 1 - self._memory[turn]
        start = turn + 1 + half * HALF
        head = len(data).to_bytes(4, "big") + zlib.crc32(data).to_bytes(4, "big")
        self._memory[start : start + _HEAD + len(data)] = head + data
        self._memory[turn] = half

    def shown(self, place: int) -> bytes:
        """What was shown last; empty where nothing was. Where a half is replaced while it is read, the other one counts by
        then; numbers left out for once would be counters that went back."""
        data, checked = b"", -1
        while zlib.crc32(data) != checked:
            start = place * _PLACE + 1 + self._memory[place * _PLACE] * HALF
            length = int.from_bytes(self._memory[start : start + 4], "big")
            checked = int.from_bytes(self._memory[start + 4 : start + _HEAD], "big")
            data = self._memory[start + _HEAD : start + _HEAD + min(length, HALF - _HEAD)]
        return data
