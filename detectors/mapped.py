"""Large sets of automata from files: what no text ever led to is not in memory.

Of a set of forty megabytes ordinary texts touch five. Hyperscan copies a set into a block of memory that it only reads from
then on; once it is there, the whole pages of the block are replaced by a private mapping of a file with the same bytes. The
block's content stays, and so does the way in which it is freed. But pages come from the file when they are first looked at, all
processes that use the file share them, and the system may take them back.

The file must not be written to while it is used: what takes its place is put there by a rename, as the cache does it.

Where the block is, Hyperscan's Python library tells nobody; it is read from the object itself. Nothing is believed of that: a
page is replaced only where it is this process's memory and holds what the file does. A block that lies among others, not at
the start of pages of its own, stays as it is.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

LARGE: Final = 2**20
"""Bytes from which on a set is mapped, and from which on a block of memory lies in pages of its own."""

BEFORE: Final = 32
"""Bytes before a set in its file: its automata begin `_BEGIN` behind a page's start, there and in memory."""

_POINTER: Final = 3 * ctypes.sizeof(ctypes.c_void_p)  # behind the object's head and its scratch space
_HEADER: Final = 32  # bytes of a set as it is written, before its automata
_LENGTH: Final = slice(8, 12)  # where among them the automata's length stands
_CHUNK: Final = 16  # the C library's own words before a large block
_BEGIN: Final = 64

_MMAP_THRESHOLD: Final = -3  # malloc.h
_MAY_MOVE, _FIXED = 1, 2  # mremap(2)
_FAILED: Final = ctypes.c_void_p(-1).value
_DONT_NEED: Final = 4
_BOUNDS: Final = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (\S+) \S+ \S+ (\d+)")  # proc(5)

_libc: Final = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long)
_libc.mremap.restype = ctypes.c_void_p
_libc.mremap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int, ctypes.c_void_p)
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
_libc.memcmp.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)


def set_memory_apart() -> None:
    """Have large blocks of this process lie in pages of their own, which go back to the system when they are freed. The C
    library would else move the bound up as blocks are freed."""
    with contextlib.suppress(AttributeError):  # another C library than glibc cannot be told
        _libc.mallopt(_MMAP_THRESHOLD, LARGE)


def place(database: Any, source: int, written: bytes) -> bool:
    """Let the open file ``source``, which holds `BEFORE` bytes and then ``written``, stand for the memory of the set that was
    loaded from it.

    Returns:
        Whether it does; where not, nothing changed.
    """
    address = ctypes.c_size_t.from_address(id(database) + _POINTER).value
    length = int.from_bytes(written[_LENGTH], "little")
    start, within = address - address % mmap.PAGESIZE, address % mmap.PAGESIZE
    first, end = start + mmap.PAGESIZE, start + (_BEGIN + length) // mmap.PAGESIZE * mmap.PAGESIZE
    if within != _CHUNK or first >= end or _HEADER + length > len(written) or not _ours(start, end):
        return False
    if os.fstat(source).st_size < BEFORE + len(written):
        return False
    size = end - first
    made = _libc.mmap(None, size, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE, source, mmap.PAGESIZE)
    if made in (None, _FAILED):
        return False
    # Compared with the very pages that will stand there, which then move over the others in one step, none of them in memory.
    same = _libc.memcmp(first, made, size) == 0 and _libc.madvise(made, size, _DONT_NEED) == 0
    if not same or _libc.mremap(made, size, size, _MAY_MOVE | _FIXED, first) != first:
        _libc.munmap(made, size)
        return False
    return True


def let_go() -> None:
    """Give back what only beginning took: free memory, and pages of programs and libraries, which come again where they are
    needed. For a worker that does not serve yet: nothing may load a library meanwhile. Takes some ten milliseconds."""
    with contextlib.suppress(OSError, AttributeError):  # another C library than glibc keeps nothing back, or cannot be asked
        _libc.malloc_trim(0)
        for part in _parts("smaps"):
            # What was ever written to is no copy of the file: constants that loading filled in, or a debugger's marks.
            if part.file and "w" not in part.rights and not part.written:
                _libc.madvise(part.low, part.high - part.low, _DONT_NEED)


def _ours(start: int, end: int) -> bool:
    """Whether these addresses are memory of this process, in one piece, that belongs to no file."""
    return any(part.low <= start and end <= part.high and part.rights == "rw-p" and not part.file for part in _parts("maps"))


class _Part(NamedTuple):
    """A part of this process's memory: addresses, rights, whether a file stands behind it, how many kilobytes were written."""

    low: int
    high: int
    rights: str
    file: bool
    written: int


def _parts(table: str) -> Iterator[_Part]:
    """All of it, the last first, by ``maps`` or, in ten times the time, by ``smaps``, which tells what was written to."""
    written = 0
    for line in reversed(Path("/proc/self", table).read_text("utf-8", "replace").splitlines()):
        if line.startswith(("Anonymous:", "Swap:")):
            written += int(line.split()[1])
        elif bounds := _BOUNDS.match(line):
            low, high, rights, inode = bounds.groups()
            yield _Part(int(low, 16), int(high, 16), rights, inode != "0", written)
            written = 0
