"""Work that is done once for all processes of a machine, in a process of its own, and kept in the cache's folder."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from patterns import cache as caching

T = TypeVar("T")


def kept(file: Path, make: Callable[[], bytes], take: Callable[[bytes], T | None]) -> T | None:
    """What ``take`` makes of a file of the cache; where that is nothing, ``make`` writes it first, in a process of its own.

    Compiling takes some hundred megabytes, which this process would never give back, and the time of all its threads.

    Args:
        take: gives None for what is damaged, or of another machine.

    Returns:
        None where nothing could be made or kept.
    """
    if (found := _taken(file, take)) is not None:
        return found
    with _alone(file.parent):  # workers that start together wait for the first one's result
        if (found := _taken(file, take)) is not None:
            return found
        child = os.fork()
        if child == 0:
            with contextlib.suppress(BaseException):
                caching.write(file, make())
            os._exit(0)
        os.waitpid(child, 0)
    return _taken(file, take)


def _taken(file: Path, take: Callable[[bytes], T | None]) -> T | None:
    data = caching.read(file)
    return None if data is None else take(data)


@contextlib.contextmanager
def _alone(cache: Path) -> Iterator[None]:
    """Be the only process that compiles into ``cache``; where no lock can be had, work is merely done twice."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            cache.mkdir(parents=True, exist_ok=True)
            lock = stack.enter_context((cache / "compiling.lock").open("w"))
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
