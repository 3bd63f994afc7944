"""Which of the workers on one machine runs the sync service: whoever holds the lock on a file, which the kernel lets go of when
its process ends, however it ends."""

from __future__ import annotations

import asyncio
import fcntl
import os
from pathlib import Path
from typing import Final

LOCK_SECONDS: Final = 0.5
"""How often a worker that does not run the service tries to."""


class Turn:
    """The lock from one worker's side."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._held: int | None = None

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

    async def wait(self) -> None:
        """Return when it is this worker's turn."""
        while not self.take():  # noqa: ASYNC110 - a lock tells nobody that it is free
            await asyncio.sleep(LOCK_SECONDS)

    def leave(self) -> None:
        if self._held is not None:
            os.close(self._held)
            self._held = None
