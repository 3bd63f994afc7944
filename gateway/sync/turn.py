"""Which of the workers on one machine runs the sync service: whoever holds the lock on a file, which the kernel lets go of when
its process ends, however it ends."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

LOCK_SECONDS: Final = 0.5
"""How often a worker that does not run the service tries to."""


AGAIN_SECONDS: Final = 60.0
"""How often it is told that it still cannot."""

_log = logging.getLogger(__name__)


class Turn:
    """The lock from one worker's side."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._held: int | None = None
        self._stands_back = False

    def take(self) -> bool:
        """Take the turn, if nobody has it."""
        self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(handle)
            return False
        self._held = handle
        return True

    async def await_and(self, run: Callable[[], Awaitable[None]]) -> None:
        """Run the service when it is this worker's turn. Where it cannot, since its address is taken for a moment, say, the
        turn is anybody's again."""
        told_at = float("-inf")
        while not self._stands_back:
            try:
                if not self.take():
                    await asyncio.sleep(LOCK_SECONDS)  # a lock tells nobody that it is free
                    continue
                await run()
            except OSError as error:
                self.leave()
                if (now := time.monotonic()) - told_at >= AGAIN_SECONDS:
                    told_at = now
                    _log.error("pattern sync: this worker cannot take over, and tries on: %s", error)
                await asyncio.sleep(LOCK_SECONDS)
            else:
                _log.info("pattern sync: this worker has taken over")
                return

    def stand_back(self) -> None:
        """Wait for no turn any more, for one that ends: it would come back to replicas that were just told farewell."""
        self._stands_back = True

    def leave(self) -> None:
        if self._held is not None:
            os.close(self._held)
            self._held = None
