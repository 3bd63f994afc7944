"""Work beside serving: in a process of its own, whose results stand in the cache's folder for all processes of a machine, or
in a thread that yields to those that serve."""

from __future__ import annotations

import contextlib
import fcntl
import gc
import importlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar

from patterns import cache as caching

T = TypeVar("T")
P = ParamSpec("P")

Work = Callable[[list[Any]], bytes]
"""A function of a module's own, so that another process finds it by its name."""

SWITCH_SECONDS: Final = 0.0005
"""How long a thread that yields keeps the interpreter to itself when another wants it. Python's own five milliseconds are
waited for several times in a request."""

YOUNG: Final = 1_000
"""New containers between two looks for garbage while a thread yields; a look stops all threads for a tenth of a millisecond."""

MANY: Final = 20
"""So many times `YOUNG` containers that stayed are what serves next: they are put where no later look goes through them."""

LOWEST: Final = 19
"""The priority of a process that works beside one that serves: it gets what others leave."""

_yields: ContextVar[bool] = ContextVar("yields", default=False)
_lock: Final = threading.Lock()
_yielding = 0
_before: tuple[float, tuple[int, int, int]] = (0.0, (0, 0, 0))


@contextlib.contextmanager
def yielding() -> Iterator[None]:
    """Let the other threads of this process go first: for a thread that loads or builds much while they serve.

    The interpreter is handed over at once, processes that are started have the lowest priority, and the collector of garbage
    looks only at what is new: at what is being built it would look again and again, and stop all threads meanwhile. Much
    that stayed is left out of later looks, and is freed all the same once nobody refers to it; what is lost is the garbage
    of connections that are open at that moment, some kilobytes each.
    """
    global _yielding, _before
    with _lock:
        if not _yielding:
            _before = sys.getswitchinterval(), gc.get_threshold()
            sys.setswitchinterval(min(SWITCH_SECONDS, _before[0]))
            gc.set_threshold(YOUNG, 2**30)
        _yielding += 1
    token = _yields.set(True)
    try:
        yield
    finally:
        _yields.reset(token)
        with _lock:
            _yielding -= 1
            if not _yielding:
                if gc.get_count()[1] >= MANY:
                    gc.freeze()
                gc.set_threshold(*_before[1])
                sys.setswitchinterval(_before[0])


def yielded(work: Callable[P, T], *args: P.args, **named: P.kwargs) -> T:
    """What ``work`` returns, done while this thread is `yielding`."""
    with yielding():
        return work(*args, **named)


def lower() -> int:
    """By how much the priority of a process is to be lower that this thread starts."""
    return LOWEST * _yields.get()


def kept(file: Path, work: Work, given: Iterable[Any], take: Callable[[bytes], T | None]) -> T | None:
    """What ``take`` makes of a file of the cache; where that is nothing, a process of its own writes it first.

    Compiling takes some hundred megabytes, which this process would never give back, and the time of all its threads. The
    other one begins anew: a copy of this one would make each of its pages dear to write to while it runs.

    Args:
        work: makes the file's content of ``given``, values that JSON can hold.
        take: gives None for what is damaged, or of another machine.

    Returns:
        None where nothing could be made or kept.
    """
    if (found := _taken(file, take)) is not None:
        return found
    with _alone(file):  # workers that start together wait for the first one's result
        if (found := _taken(file, take)) is not None:
            return found
        # -P: nothing is imported from where the gateway was started, but for what it imports from there itself.
        argv = [sys.executable, "-P", "-m", __name__, f"{work.__module__}:{work.__name__}", str(file), str(lower())]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        lines = "".join([json.dumps(one) + "\n" for one in given])  # one by one: each call keeps the interpreter to itself
        with contextlib.suppress(OSError):
            subprocess.run(argv, input=lines.encode(), env=environment, stdout=subprocess.DEVNULL,
                           stderr=subprocess.DEVNULL, check=False)  # fmt: skip  # it may outlive this process
    return _taken(file, take)


def _taken(file: Path, take: Callable[[bytes], T | None]) -> T | None:
    data = caching.read(file)
    return None if data is None else take(data)


@contextlib.contextmanager
def _alone(file: Path) -> Iterator[None]:
    """Be the only one who makes ``file``; where no lock can be had, work is merely done twice."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            file.parent.mkdir(parents=True, exist_ok=True)
            held = file.with_name(f"{file.name}.lock")
            lock = stack.enter_context(held.open("w"))
            fcntl.flock(lock, fcntl.LOCK_EX)
            stack.callback(held.unlink, missing_ok=True)
        yield


def _work(name: str, file: str, nice: str) -> None:
    os.nice(int(nice))
    module, _, function = name.partition(":")
    work: Work = getattr(importlib.import_module(module), function)
    caching.write(Path(file), work([json.loads(line) for line in sys.stdin]))


if __name__ == "__main__":
    _work(*sys.argv[1:])
