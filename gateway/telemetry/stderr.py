"""Standard error, written by a thread: a reader that stalls must not hold up the gateway, nor fill its memory."""

from __future__ import annotations

import contextlib
import os
import select
import threading
from collections import deque
from collections.abc import Iterable
from typing import Final

MAX_LINES: Final = 16_384
"""Lines that wait to be written, a few megabytes of them; what comes then is dropped and counted."""


class Stderr:
    """Writes lines to a file descriptor. Each process that was forked has a thread of its own, begun with its first line."""

    def __init__(self, descriptor: int, most: int = MAX_LINES) -> None:
        self._descriptor = descriptor
        self._most = most
        self._lines: deque[bytes] = deque()
        self._changed = threading.Condition()
        self._writing = False
        self._process = 0
        self.dropped = 0

    def write(self, lines: Iterable[bytes]) -> None:
        """Queue lines, which hold no newline."""
        if self._process != os.getpid():
            self._begin()
        with self._changed:
            for line in lines:
                if len(self._lines) < self._most:
                    self._lines.append(line)
                else:
                    self.dropped += 1
            self._changed.notify_all()

    def drain(self, seconds: float) -> bool:
        """Wait until all is written, no longer than ``seconds``; whether it is."""
        if self._process != os.getpid():
            return True
        with self._changed:
            return self._changed.wait_for(lambda: not self._lines and not self._writing, seconds)

    def _begin(self) -> None:
        self._process = os.getpid()
        self._lines, self._changed, self._writing = deque(), threading.Condition(), False  # what waits is the parent's to write
        threading.Thread(target=self._run, name="portcullis-stderr", daemon=True).start()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._writing = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._lines)
                lines = self._take()
                self._writing = True
            try:
                self._put(b"".join([line + b"\n" for line in lines]))
            except OSError:  # nobody is there to read
                self.dropped += len(lines)

    def _take(self) -> list[bytes]:
        """As many lines as go out in one piece, whatever other processes write to the same pipe (pipe(7)), or a longer one."""
        taken = [self._lines.popleft()]
        size = len(taken[0]) + 1
        while self._lines and (size := size + len(self._lines[0]) + 1) <= select.PIPE_BUF:
            taken.append(self._lines.popleft())
        return taken

    def _put(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            with contextlib.suppress(BlockingIOError):
                rest = rest[os.write(self._descriptor, rest) :]
                continue
            select.select((), (self._descriptor,), ())


STANDARD_ERROR: Final = Stderr(2)
