"""Work that may be long, done in steps: others have their turn between them, and what is a function of its own a thread may do.

Pure: who has such work to do decides whether anything else is done meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, TypeVar

T = TypeVar("T")

Steps = Generator[Callable[[], Any] | None, Any, T]
"""Gives None where others may have their turn, and a function that is to be called, in whatever thread: what it returns is sent
back, and until then nothing that it works on is touched."""


def at_once(steps: Steps[T]) -> T:
    """Do all of it here and now."""
    done = begun(steps, lambda: False)
    assert done is not None
    return done[0]


def begun(steps: Steps[T], enough: Callable[[], bool]) -> tuple[T] | None:
    """Do it here and now, until that is ``enough``; what it returns, or None where something of ``steps`` is left."""
    answer = None
    while True:
        try:
            work = steps.send(answer)
        except StopIteration as over:
            return (over.value,)
        answer = work() if work is not None else None
        if work is None and enough():
            return None
