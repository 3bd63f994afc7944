"""Work counted in calls, which no other load on the machine changes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType


def calls(function: Callable[[str], object], text: str) -> int:
    """Calls made by ``function(text)``, of Python's functions and of C's: loops over a text are made of them."""
    count = 0

    def note(frame: FrameType, event: str, arg: object) -> None:
        nonlocal count
        count += 1

    sys.setprofile(note)
    try:
        function(text)
    finally:
        sys.setprofile(None)
    return count
