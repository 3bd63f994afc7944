"""Lines in, answers out, in order: as fast as all cores allow, and at once where somebody waits for each answer."""

from __future__ import annotations

import codecs
import gzip
import io
import multiprocessing
import os
import select
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from typing import IO, Any, Final, TypeVar

R = TypeVar("R")

BLOCK: Final = 1 << 18
"""Bytes read at once. A pipe gives what it has, so that a lone line is answered without waiting for the next one."""

CHUNK: Final = 64
"""Lines that one process works on at a time: some 10 ms of ordinary text, against 0.3 ms to hand them over."""

ALONE: Final = 4
"""Chunks of one block from which other processes are worth starting."""

Work = Callable[[Sequence[bytes]], R]


def available() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def stream(source: IO[bytes], work: Work[R], jobs: int) -> Iterator[R]:
    """What ``work`` makes of the lines of ``source``, chunk by chunk, in order. Empty lines are passed over.

    With more than one of ``jobs``, chunks go to processes forked from this one, which share what ``work`` holds.
    """
    pool: ProcessPoolExecutor | None = None
    waiting: deque[Future[R]] = deque()
    try:
        for lines in _blocks(source):
            chunks = [lines[at : at + CHUNK] for at in range(0, len(lines), CHUNK)]
            if pool is None and jobs > 1 and len(chunks) >= ALONE:
                pool = _pool(work, jobs)
            if pool is None:
                yield from map(work, chunks)
                continue
            for chunk in chunks:
                waiting.append(pool.submit(_work, chunk))
                while len(waiting) > 2 * jobs or (waiting and waiting[0].done()):
                    yield waiting.popleft().result()
            if not _ready(source):
                while waiting:
                    yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        if pool is not None:
            pool.shutdown(cancel_futures=True)


def _pool(work: Work[Any], jobs: int) -> ProcessPoolExecutor:
    # Forked, not started anew: patterns and model are in memory already and stay shared.
    return ProcessPoolExecutor(jobs, multiprocessing.get_context("fork"), _take, (work,))


_taken: list[Work[Any]] = []


def _take(work: Work[Any]) -> None:
    _taken.append(work)


def _work(lines: Sequence[bytes]) -> Any:
    return _taken[0](lines)


def _blocks(source: IO[bytes]) -> Iterator[list[bytes]]:
    """The lines of each block read, without those that are empty."""
    rest: list[bytes] = []
    begun = False
    while block := _read(source):
        if not begun:  # a mark of byte order is none of the first line, where an editor wrote it
            block, begun = block.removeprefix(codecs.BOM_UTF8), True
        head, newline, tail = block.rpartition(b"\n")
        if not newline:
            rest.append(block)
            continue
        lines = b"".join((*rest, head)).split(b"\n")
        rest = [tail] if tail else []
        if full := [line for line in lines if line.strip()]:
            yield full
    if (last := b"".join(rest)).strip():
        yield [last]


def _read(source: IO[bytes]) -> bytes:
    """The next bytes that are there; empty at the end."""
    return source.read1(BLOCK) if isinstance(source, io.BufferedReader | gzip.GzipFile) else source.read(BLOCK)


def _ready(source: IO[bytes]) -> bool:
    """Whether more can be read without waiting."""
    try:
        return bool(select.select([source], [], [], 0)[0])
    except (OSError, ValueError):  # no file of the system, as in a test
        return True
