"""Work of seconds that people ask the control plane for: trials, the playground, what is nearest in meaning.

It has threads of its own, and each person a few places in their queue. On the threads that all else shares, one key in the
wrong hands could keep everybody's labels waiting, and a rollback.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, ParamSpec, TypeVar

from gateway.keys import Principal

T = TypeVar("T")
P = ParamSpec("P")

ASIDE: Final = "portcullis-aside"
"""How the names of threads begin that a worker does not wait for when it ends."""

THREADS: Final = 2

MOST: Final = 4
"""What one person may have asked for at a time, in one worker: a console open twice asks for two."""

BUSY_SECONDS: Final = 2
"""When whoever was refused may ask again: a trial takes about one."""


class Busy(Exception):  # noqa: N818 - reads as the condition that it is
    """Somebody has asked for as much at a time as he may."""


class Errands:
    """See the module."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(THREADS, ASIDE)
        self._asked = Counter[str]()

    async def run(self, principal: Principal, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What ``work`` returns, done on a thread in its turn.

        Raises:
            Busy: not begun, since he has so much in the queue already.
        """
        who = principal.person
        if self._asked[who] >= MOST:
            raise Busy(f"{MOST} trials and the like of yours are at work; ask again when one is done")
        self._asked[who] += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, lambda: work(*args, **kwargs))
        finally:
            self._asked[who] -= 1
            if not self._asked[who]:
                del self._asked[who]

    def close(self) -> None:
        """Begin nothing more."""
        self._pool.shutdown(wait=False, cancel_futures=True)
